"""The short way to an envelope's payload says what the long way says, whatever the bytes."""

from hypothesis import given
from hypothesis import strategies as st

from surge_wire.cose import TAG_MAC0, open_profile, payload_of, profile_start, seal_mac0
from surge_wire.errors import DecodeError

ID = "d" + "a" * 16
START = profile_start(TAG_MAC0, ID.encode())
LEN_MAX = 70_000


def long_way(data: bytes) -> bytes | None:
    try:
        return open_profile(TAG_MAC0, data, LEN_MAX).payload
    except DecodeError:
        return None


def short_way(data: bytes) -> bytes | None:
    try:
        return payload_of(TAG_MAC0, START, data, LEN_MAX)
    except DecodeError:
        return None


@given(st.integers(0, 300) | st.integers(65_500, 65_600), st.booleans())
def test_what_was_sealed_is_opened(length: int, cut: bool) -> None:
    payload = bytes(range(256)) * (length // 256 + 1)
    data = seal_mac0(ID, b"k" * 32, payload[:length], LEN_MAX)
    assert short_way(data) == long_way(data) == payload[:length]
    shorter = data[:-1] if cut else data[:26] + data[27:]
    assert short_way(shorter) is None
    assert long_way(shorter) is None


@given(st.binary(max_size=400), st.binary(max_size=70))
def test_both_ways_agree_on_any_rest(rest: bytes, proof: bytes) -> None:
    for data in (START + rest, START + rest + b"\x58\x20" + proof):
        assert short_way(data) == long_way(data)


@given(st.integers(0, 300), st.data())
def test_both_ways_agree_on_a_changed_byte(length: int, draw: st.DataObject) -> None:
    data = bytearray(seal_mac0(ID, b"k" * 32, bytes(length), LEN_MAX))
    data[draw.draw(st.integers(26, len(data) - 1))] ^= draw.draw(st.integers(1, 255))
    assert short_way(bytes(data)) == long_way(bytes(data))


def test_another_devices_envelope_is_not_opened() -> None:
    data = seal_mac0("d" + "b" * 16, b"k" * 32, b"payload", LEN_MAX)
    assert long_way(data) == b"payload"
    assert short_way(data) is None
