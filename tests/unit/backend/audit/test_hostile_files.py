"""Whatever a file holds, the outcome is a report or ExportUnreadable: no traceback, no large allocation."""

import io
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from cbor2 import dumps, loads
from hypothesis import given, settings
from hypothesis import strategies as st

from surge_backend.audit import items
from surge_backend.audit.framing import ITEM_LEN_MAX, ExportUnreadable, frame, read_frames
from surge_backend.audit.items import Entry, Event, Header, TransferItem, decode_item, encode_item
from surge_backend.audit.names import AcceptedNames
from surge_backend.audit.verifying import Options, verify_export
from surge_backend.verify.reading import ReadReport
from surge_wire.errors import DecodeError

from .conftest import Network, read_items, settled, settlement_of, sign_again, verify, write_items

LOG_SEED = bytes(range(32))
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(1 << 64), (1 << 64) - 1),
    st.floats(),
    st.binary(max_size=40),
    st.text(max_size=20),
    st.lists(st.integers(-5, 5), max_size=3),
    st.dictionaries(st.integers(0, 9), st.integers(), max_size=3),
)


def outcome(data: bytes) -> Any:
    """What verification makes of it, all lies included."""
    try:
        return verify_export(io.BytesIO(data), Options(findings_max=1_000))
    except ExportUnreadable as error:
        return error


@given(st.binary(max_size=400))
def test_any_bytes_are_an_item_or_a_decode_error(data: bytes) -> None:
    try:
        item = decode_item(data)
    except DecodeError:
        return
    assert decode_item(encode_item(item)) == item


@given(st.binary(max_size=400))
def test_any_bytes_are_unreadable_as_an_export(data: bytes) -> None:
    assert isinstance(outcome(data), ExportUnreadable)


@settings(max_examples=60)
@given(data=st.data())
def test_an_export_with_damaged_bytes_ends_in_words(network: Network, data: st.DataObject) -> None:
    whole = bytearray(network.export())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(whole) - 1))
        length = data.draw(st.integers(0, 9))
        whole[at : at + length] = data.draw(st.binary(max_size=9))
    made = outcome(bytes(whole))
    if not isinstance(made, ExportUnreadable) and not made.findings:
        assert content(bytes(whole)) == content(network.export())


def content(data: bytes) -> list[Any]:
    """What an export says, but for the backend's clock and its header: nothing else is believed."""
    return [
        replace(item, time_ms=0) if isinstance(item, Event) else item
        for item in read_items(data)
        if not isinstance(item, Header)
    ]


def leaves_of(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every value inside a value."""
    found = [path] if path else []
    if isinstance(value, list):
        for number, part in enumerate(value):
            found += leaves_of(part, (*path, number))
    elif isinstance(value, dict):
        for key, part in value.items():
            found += leaves_of(part, (*path, key))
    return found


@settings(max_examples=150)
@given(data=st.data())
def test_an_export_with_any_value_put_anywhere_ends_in_words(network: Network, data: st.DataObject) -> None:
    """Well-formed all the way, so that it reaches the checks themselves."""
    frames = [loads(item) for _, item in read_frames(io.BytesIO(network.export()))]
    for _ in range(data.draw(st.integers(1, 4))):
        target = data.draw(st.sampled_from(frames[1:]))
        *way, last = data.draw(st.sampled_from(leaves_of(target)))
        for step in way:
            target = target[step]
        target[last] = data.draw(LEAVES)
    outcome(b"".join(frame(dumps(item)) for item in frames))


@settings(max_examples=60)
@given(data=st.data())
def test_settlements_of_any_content_under_the_logs_own_key_end_in_words(
    network: Network, data: st.DataObject
) -> None:
    """A backend that signs whatever it likes."""
    found = read_items(network.export())
    places = [place for place, item in enumerate(found) if isinstance(item, Entry)]
    place = data.draw(st.sampled_from(places))
    item = found[place]
    assert isinstance(item, Entry)
    count = settlement_of(item).report_count
    owner = "owner:" + network.devices["plain"].owner_id
    lies: dict[str, Any] = {
        "received_ms": data.draw(st.integers(0, 1 << 52)),
        "tariff_version": data.draw(st.integers(0, 5)),
        "rejections": sorted(
            data.draw(
                st.dictionaries(st.integers(0, max(0, count - 1)), st.integers(1, 11), max_size=count)
            ).items()
        ),
        "credits": [("issuance", -9), (owner, 9)],
        "batch_seq": data.draw(st.integers(0, 9)),
        "report_count": data.draw(st.integers(count, count + 3)),
    }
    chosen = data.draw(st.lists(st.sampled_from(sorted(lies)), min_size=1, unique=True))
    found[place] = settled(item, **{name: lies[name] for name in chosen})
    made = outcome(write_items(sign_again(found, LOG_SEED)))
    assert not isinstance(made, ExportUnreadable)


def test_a_length_that_no_item_has_is_refused_before_it_is_read() -> None:
    class Endless:
        """Claims an item of 4 GiB, and would give it."""

        given = 0

        def read(self, size: int, /) -> bytes:
            self.given += size
            return (b"\x5a\xff\xff\xff\xff" + b"\x00" * 99)[self.given - size : self.given]

    source = Endless()
    with pytest.raises(ExportUnreadable, match="the limit is"):
        list(read_frames(source))
    assert source.given == 5


@pytest.mark.parametrize("length", [0, 23, 24, 255, 256, 65_535, 65_536])
def test_frames_of_every_head_come_back(length: int) -> None:
    data = bytes(length)
    assert [item for _, item in read_frames(io.BytesIO(frame(data) * 2))] == [data, data]


def test_an_item_that_nobody_would_read_is_not_written() -> None:
    with pytest.raises(ValueError, match="limit"):
        frame(bytes(ITEM_LEN_MAX + 1))


def test_an_export_cut_anywhere_says_so(network: Network) -> None:
    whole = network.export()
    ends = [offset for offset, _ in read_frames(io.BytesIO(whole))]
    for end in [*ends, *(end + 1 for end in ends), len(whole) - 1]:
        with pytest.raises(ExportUnreadable, match=r"cut short|empty"):
            verify(whole[:end])


MISUSE: dict[str, Callable[[list[Any]], list[Any]]] = {
    "no header": lambda found: found[1:],
    "two headers": lambda found: [found[0], *found],
    "something after the end": lambda found: [*found, found[-1]],
    "an event after the tables": lambda found: [*found[:-1], found[1], found[-1]],
    "an entry after the tables": lambda found: [
        *found[:-1],
        next(item for item in found if isinstance(item, Entry)),
        found[-1],
    ],
    "not from the start": lambda found: [replace(found[0], first=1), *found[1:]],
    "a key that is none": lambda found: [replace(found[0], log_public_key=b"\xff" * 32), *found[1:]],
}


@pytest.mark.parametrize("name", MISUSE)
def test_items_where_they_cant_be_are_unreadable(network: Network, name: str) -> None:
    with pytest.raises(ExportUnreadable):
        verify(write_items(MISUSE[name](read_items(network.export()))))


def test_an_export_of_another_version_is_named(network: Network) -> None:
    header = loads(encode_item(read_items(network.export())[0]))
    header[1] = items.VERSION + 1
    with pytest.raises(ExportUnreadable, match="another version"):
        verify(frame(dumps(header)))


def test_what_a_hostile_file_names_reaches_no_terminal_raw(network: Network) -> None:
    found = read_items(network.export())
    hostile = TransferItem(bytes(32), "\x1b[2Jgift", bytes(32), bytes(32), None, 5, [("\x1b]0;owned\x07", 5)])
    (finding,) = verify(write_items([*found[:-1], hostile, found[-1]])).findings
    assert str(finding).isprintable()
    assert "gift" in finding.where


def test_an_entry_without_its_batch_is_a_lie_in_a_full_export(network: Network) -> None:
    found = [
        replace(item, batch=None) if isinstance(item, Entry) else item
        for item in read_items(network.export())
    ]
    (finding,) = verify(write_items(found)).findings
    assert "batch is missing" in finding.what


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["da", "db"]), st.integers(0, 3), st.integers(0, 70), st.integers(1, 4_096)
        ),
        unique_by=lambda name: name[:3],
    )
)
def test_names_are_found_again_and_no_others(made: list[tuple[str, int, int, int]]) -> None:
    names = AcceptedNames()
    for number, (device_id, boot, seq, length) in enumerate(made):
        digest = number.to_bytes(16, "big")
        names.add(ReadReport(number, 0, "", device_id, boot, seq, 3, length, digest), number)
    known = {name[:3]: (number, name[3]) for number, name in enumerate(made)}
    for device_id in ("da", "db"):
        assert names.count(device_id) == sum(name[0] == device_id for name in made)
        for boot in range(4):
            for seq in range(70):
                facts = names.facts(device_id, boot, seq)
                wanted = known.get((device_id, boot, seq))
                if wanted is None:
                    assert facts is None
                else:
                    number, length = wanted
                    assert facts == (number.to_bytes(16, "big"), number, number, 3, length)
