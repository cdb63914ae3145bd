"""Every kind of record, tampered with in turn: each lie is found, as the first, and named with its place.

Most of these are a backend that lies with its own log key: everything is signed anew after the change, so
that no signature gives it away.
"""

from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest

from surge_backend.audit import findings as kinds
from surge_backend.audit import items
from surge_backend.audit.items import BatchPart, Entry, Event, Header, Item, Rows, TransferItem
from surge_backend.ledger.posting import content_hash
from surge_wire import ed25519
from surge_wire.batch import decode_batch, encode_batch, open_batch, seal_batch
from surge_wire.verdicts import ACCEPTED, BAD_MAC, DUPLICATE, TOO_LATE

from .conftest import (
    Network,
    change,
    entry,
    read_items,
    rows,
    settled,
    settlement_of,
    sign_again,
    verify,
    write_items,
)

LOG_SEED = bytes(range(32))
Tamper = Callable[[Network, list[Item]], list[Item]]


def in_batch(index: int, **changes: Any) -> Tamper:
    """Fields of an entry's batch part."""

    def tamper(_: Network, found: list[Item]) -> list[Item]:
        return change(found, entry(index), lambda item: replace(item, batch=replace(item.batch, **changes)))

    return tamper


def batch(index: int, made: Callable[[BatchPart], BatchPart]) -> Tamper:
    """An entry's batch part as a whole."""

    def tamper(_: Network, found: list[Item]) -> list[Item]:
        return change(found, entry(index), lambda item: replace(item, batch=made(item.batch)))

    return tamper


def lie(index: int, made: Callable[[Entry], Entry]) -> Tamper:
    """Another settlement at ``index``, and everything signed anew by the log's own key."""

    def tamper(_: Network, found: list[Item]) -> list[Item]:
        return sign_again(change(found, entry(index), made), LOG_SEED)

    return tamper


def with_verdict(position: int, code: int) -> Callable[[Entry], Entry]:
    """One report's verdict, as the log has it."""

    def made(item: Entry) -> Entry:
        rejections = dict(settlement_of(item).rejections)
        rejections.pop(position, None)
        if code != ACCEPTED:
            rejections[position] = code
        return settled(item, rejections=sorted(rejections.items()))

    return made


def with_credits(shift: int) -> Callable[[Entry], Entry]:
    """An owner gets more, and issuance gives it; the transfer follows the settlement."""

    def made(item: Entry) -> Entry:
        (issuance, issued), (account, amount), *others = settlement_of(item).credits
        credits = [(issuance, issued - shift), (account, amount + shift), *others]
        assert item.batch is not None
        (transfer,) = item.batch.transfers
        digest = content_hash(transfer.kind, transfer.reference, credits)
        transfer = replace(transfer, legs=credits, content_hash=digest)
        return settled(replace(item, batch=replace(item.batch, transfers=[transfer])), credits=credits)

    return made


def transfers(made: Callable[[TransferItem], list[TransferItem]]) -> Tamper:
    """The one transfer of entry 0."""
    return batch(0, lambda part: replace(part, transfers=made(part.transfers[0])))


def move(shift: int) -> Callable[[TransferItem], list[TransferItem]]:
    """One leg more, one leg less."""

    def made(transfer: TransferItem) -> list[TransferItem]:
        (first, amount), (second, other), *legs = transfer.legs
        return [replace(transfer, legs=[(first, amount - shift), (second, other + shift), *legs])]

    return made


def flip(data: bytes, at: int) -> bytes:
    """One bit of one byte."""
    return data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :]


def row(kind: int, column: int, value: Any, number: int = 0) -> Tamper:
    """One value of one row; ``value`` may be a function of what is there."""

    def tamper(_: Network, found: list[Item]) -> list[Item]:
        def made(item: Rows) -> Rows:
            old = item.rows[number]
            new = value(old[column]) if callable(value) else value
            lines = [*item.rows]
            lines[number] = (*old[:column], new, *old[column + 1 :])
            return Rows(kind, lines)

        return change(found, rows(kind), made)

    return tamper


def lines(kind: int, made: Callable[[list[Any]], list[Any]]) -> Tamper:
    """The rows of one table."""
    return lambda _, found: change(found, rows(kind), lambda item: Rows(kind, made(item.rows)))


def event(kind: str, made: Callable[[Event], Any]) -> Tamper:
    """The first event of a kind."""
    return lambda _, found: change(found, lambda item: isinstance(item, Event) and item.kind == kind, made)


def without_event(kind: str) -> Tamper:
    """An event taken away, and the others numbered anew, so that no hole shows."""

    def tamper(_: Network, found: list[Item]) -> list[Item]:
        left = change(found, lambda item: isinstance(item, Event) and item.kind == kind, lambda _item: None)
        ordinal = 0
        out: list[Item] = []
        for item in left:
            if isinstance(item, Event):
                ordinal += 1
                item = replace(item, ordinal=ordinal)
            out.append(item)
        return out

    return tamper


def swapped(_: Network, found: list[Item]) -> list[Item]:
    """Entries 1 and 2, of two gateways, in the other order."""
    places = [i for i, item in enumerate(found) if isinstance(item, Entry) and item.index in (1, 2)]
    first, second = places
    found[first], found[second] = found[second], found[first]
    return sign_again(found, LOG_SEED)


def dropped(index: int, signed_again: bool) -> Tamper:
    """An entry less."""

    def tamper(_: Network, found: list[Item]) -> list[Item]:
        left = change(found, entry(index), lambda _item: None)
        return sign_again(left, LOG_SEED) if signed_again else left

    return tamper


def resigned_batch(index: int, made: Callable[[Any], None]) -> Tamper:
    """A batch changed with its gateway's help, its settlement and transfer made to fit, all signed anew."""

    def tamper(network: Network, found: list[Item]) -> list[Item]:
        (target,) = [item for item in found if isinstance(item, Entry) and item.index == index]
        assert target.batch is not None
        gateway_id, opened = open_batch(target.batch.envelope)
        (gateway,) = [known for known in network.gateways if known.id == gateway_id]
        contents = decode_batch(opened.payload)
        made(contents)
        payload = encode_batch(contents)
        envelope = seal_batch(gateway_id, ed25519.signer(gateway.seed), payload)
        digest = sha256(envelope).digest()
        part = replace(target.batch, envelope=envelope, hash=digest)
        return sign_again(
            change(found, entry(index), lambda item: settled(replace(item, batch=part), batch_hash=digest)),
            LOG_SEED,
        )

    return tamper


def other_value(contents: Any) -> None:
    """One byte of the first report's measurements."""
    report = contents.reports[0]
    contents.reports[0] = flip(report, report.index(b"q0") + 10)


def other_previous(contents: Any) -> None:
    contents.previous = flip(contents.previous, 3)


CASES: dict[str, tuple[Tamper, str, str]] = {
    # --- the log
    "a byte of a settlement": (
        lambda _, found: change(found, entry(3), lambda item: settled(item, received_ms=5)),
        kinds.NODE,
        "entry 3, node 0/3",
    ),
    "a leaf": (
        lambda _, found: change(
            found, entry(2), lambda item: replace(item, nodes=[flip(item.nodes[0], 0), *item.nodes[1:]])
        ),
        kinds.NODE,
        "entry 2, node 0/2",
    ),
    "a node": (
        lambda _, found: change(
            found, entry(3), lambda item: replace(item, nodes=[*item.nodes[:2], flip(item.nodes[2], 9)])
        ),
        kinds.NODE,
        "entry 3, node 2/0",
    ),
    "a node is missing": (
        lambda _, found: change(found, entry(3), lambda item: replace(item, nodes=item.nodes[:2])),
        kinds.NODE,
        "entry 3",
    ),
    "a head's root": (
        lambda _, found: change(
            found, entry(4), lambda item: replace(item, head_root=flip(item.head_root, 0))
        ),
        kinds.HEAD,
        "entry 4",
    ),
    "a head's signature": (
        lambda _, found: change(
            found, entry(4), lambda item: replace(item, head=flip(item.head, -1 % len(item.head)))
        ),
        kinds.HEAD,
        "entry 4",
    ),
    "an earlier head again": (
        lambda _, found: change(
            found,
            entry(5),
            lambda item: replace(
                item, head=next(i.head for i in found if isinstance(i, Entry) and i.index == 4)
            ),
        ),
        kinds.HEAD,
        "entry 5",
    ),
    "a receipt": (
        lambda _, found: change(
            found, entry(6), lambda item: replace(item, answer=flip(item.answer, len(item.answer) - 1))
        ),
        kinds.RECEIPT,
        "entry 6",
    ),
    "another entry's receipt": (
        lambda _, found: change(
            found,
            entry(6),
            lambda item: replace(
                item, answer=next(i.answer for i in found if isinstance(i, Entry) and i.index == 5)
            ),
        ),
        kinds.RECEIPT,
        "entry 6",
    ),
    "two entries in the other order": (swapped, kinds.CREDIT, "entry 1, batch"),
    "a dropped entry": (dropped(5, signed_again=False), kinds.EVENT, "event"),
    "a dropped entry, signed again": (dropped(8, signed_again=True), kinds.EVENT, "event"),
    "a dropped last entry": (dropped(9, signed_again=True), kinds.GATEWAY, "gateway g"),
    "an entry that is no settlement": (
        lie(3, lambda item: replace(item, settlement=b"\x00")),
        kinds.SETTLEMENT,
        "entry 3",
    ),
    # --- batches and chains
    "a byte of a batch": (
        batch(1, lambda part: replace(part, envelope=flip(part.envelope, 60))),
        kinds.BATCH,
        "entry 1, batch",
    ),
    "a batch's settlement names another gateway": (
        lambda network, found: lie(1, lambda item: settled(item, gateway_id=network.gateways[0].id))(
            network, found
        ),
        kinds.SETTLEMENT,
        "entry 1, batch",
    ),
    "a report less in the settlement": (
        lie(0, lambda item: settled(item, report_count=settlement_of(item).report_count - 1)),
        kinds.SETTLEMENT,
        "entry 0, batch",
    ),
    "a chain link": (resigned_batch(3, other_previous), kinds.CHAIN, "entry 3, batch"),
    "a batch's row": (in_batch(1, report_count=99), kinds.BATCH, "entry 1, batch"),
    "windows of a device that it doesn't serve": (
        lambda network, found: in_batch(8, window_devices=[network.devices["plain"].id])(network, found),
        kinds.WINDOWS,
        "entry 8, batch",
    ),
    # --- verdicts, by a backend that lies with its own key
    "a report counted twice": (lie(1, with_verdict(1, ACCEPTED)), kinds.VERDICT, "entry 1, batch"),
    "an honest report refused": (lie(0, with_verdict(2, DUPLICATE)), kinds.VERDICT, "report 2 (device d"),
    "evidence looked away from": (lie(3, with_verdict(1, DUPLICATE)), kinds.VERDICT, "report 1 (device d"),
    "a frozen device let through": (lie(4, with_verdict(0, ACCEPTED)), kinds.VERDICT, "report 0 (device d"),
    "a retired device paid": (lie(5, with_verdict(2, ACCEPTED)), kinds.VERDICT, "report 2 (device d"),
    "a late report paid": (lie(6, with_verdict(2, ACCEPTED)), kinds.VERDICT, "report 2 (device d"),
    "a jump let through": (lie(7, with_verdict(0, TOO_LATE)), kinds.VERDICT, "report 0 (device d"),
    "garbage accepted": (lie(1, with_verdict(2, ACCEPTED)), kinds.VERDICT, "entry 1, batch"),
    "a stored rejection": (
        batch(1, lambda part: replace(part, rejections=[(*part.rejections[0][:4], 9), *part.rejections[1:]])),
        kinds.REJECTION,
        "entry 1, batch",
    ),
    "a stored rejection is missing": (
        batch(1, lambda part: replace(part, rejections=part.rejections[1:])),
        kinds.REJECTION,
        "entry 1, batch",
    ),
    # --- money
    "a credit": (lie(0, with_credits(7)), kinds.CREDIT, "account owner:"),
    "a credit from nothing": (
        lie(9, lambda item: settled(item, credits=[("issuance", -5), ("owner:x", 5)])),
        kinds.CREDIT,
        "account owner:x",
    ),
    "another tariff's price": (lie(7, lambda item: settled(item, tariff_version=1)), kinds.TARIFF, "entry 7"),
    "a price, in its event": (
        event("tariff_added", lambda item: replace(item, detail=item.detail | {6: 11})),
        kinds.CREDIT,
        "entry 0, batch",
    ),
    "a price, in its row": (row(items.TARIFFS, 2, 1_000), kinds.TARIFF, "tariff 1"),
    "a transfer's legs": (transfers(move(3)), kinds.TRANSFER, "entry 0, batch"),
    "a transfer is missing": (transfers(lambda _: []), kinds.TRANSFER, "entry 0, batch"),
    "a transfer is doubled": (transfers(lambda transfer: [transfer] * 2), kinds.TRANSFER, "entry 0, batch"),
    "a transfer is doubled under another id": (
        transfers(lambda transfer: [transfer, replace(transfer, id=bytes(32))]),
        kinds.TRANSFER,
        f"transfer {bytes(32).hex()}",
    ),
    "a transfer's content hash": (
        transfers(lambda transfer: [replace(transfer, content_hash=bytes(32))]),
        kinds.TRANSFER,
        "entry 0, batch",
    ),
    "a transfer's time": (
        transfers(lambda transfer: [replace(transfer, created_ms=1)]),
        kinds.TRANSFER,
        "entry 0, batch",
    ),
    "a transfer of another kind": (
        lambda network, found: [
            *found[:-1],
            TransferItem(
                bytes(32),
                "gift",
                bytes(32),
                bytes(32),
                None,
                5,
                [("issuance", -9), (f"owner:{network.devices['plain'].owner_id}", 9)],
            ),
            found[-1],
        ],
        kinds.TRANSFER,
        "of kind gift",
    ),
    "an account's balance": (row(items.ACCOUNTS, 4, lambda old: old + 1), kinds.ACCOUNT, "account issuance"),
    "an account's carry": (row(items.ACCOUNTS, 5, lambda old: old + 1, 3), kinds.ACCOUNT, "account owner:"),
    "an account that may go below zero": (row(items.ACCOUNTS, 3, True, 1), kinds.ACCOUNT, "account owner:"),
    "an account more": (
        lines(items.ACCOUNTS, lambda old: [*old, ("owner:" + "o" * 17, "owner", None, False, 0, 0)]),
        kinds.ACCOUNT,
        "account owner:ooo",
    ),
    "an account less": (lines(items.ACCOUNTS, lambda old: old[1:]), kinds.ACCOUNT, "account issuance"),
    "an account twice": (
        lines(items.ACCOUNTS, lambda old: [old[0], *old]),
        kinds.ACCOUNT,
        "account issuance",
    ),
    "what is held": (row(items.HOLDS, 3, lambda old: old + 1), kinds.HOLD, "hold 1"),
    "a hold released": (row(items.HOLDS, 5, 77), kinds.HOLD, "hold 1"),
    "a hold less": (lines(items.HOLDS, lambda old: old[:1]), kinds.HOLD, "hold 2"),
    # --- the registry
    "a device's owner, in its row": (
        lambda network, found: row(items.DEVICES, 1, network.gateways[0].owner_id)(network, found),
        kinds.DEVICE,
        "device d",
    ),
    "a device's owner, in its event": (
        lambda network, found: event(
            "device_enrolled",
            lambda item: replace(item, detail=item.detail | {1: network.gateways[0].owner_id}),
        )(network, found),
        kinds.CREDIT,
        "entry 0, batch",
    ),
    "a device's status": (row(items.DEVICES, 3, "frozen"), kinds.DEVICE, "device d"),
    "a device's enrolment is gone": (without_event("device_enrolled"), kinds.VERDICT, "report 0"),
    "a freezing is gone": (without_event("device_frozen"), kinds.EVENT, "entry 3, device d"),
    "an unfreezing is gone": (without_event("device_unfrozen"), kinds.VERDICT, "entry 5, batch"),
    "a retirement is gone": (without_event("device_retired"), kinds.VERDICT, "entry 5, batch"),
    "a revocation is gone": (without_event("gateway_revoked"), kinds.GATEWAY, "gateway g"),
    "a tariff is gone": (without_event("tariff_added"), kinds.TARIFF, "entry 0, batch"),
    "an event is missing": (event("tariff_added", lambda _: None), kinds.EVENT, "event 2, "),
    "an event is moved": (
        event("device_unfrozen", lambda item: replace(item, tree_size=item.tree_size - 1)),
        kinds.EVENT,
        "device_unfrozen of d",
    ),
    "a freezing without evidence": (
        event("device_enrolled", lambda item: replace(item, kind="device_frozen", detail={4: 0})),
        kinds.EVENT,
        "device_frozen of d",
    ),
    "a gateway's key": (row(items.GATEWAYS, 2, bytes(32)), kinds.GATEWAY, "gateway g"),
    "a gateway's key, in its event": (
        event(
            "gateway_enrolled",
            lambda item: replace(item, detail=item.detail | {3: ed25519.public_key(bytes(32))}),
        ),
        kinds.BATCH,
        "entry 0, batch",
    ),
    "a gateway less": (lines(items.GATEWAYS, lambda old: old[1:]), kinds.GATEWAY, "gateway g"),
    "a gateway's chain": (row(items.GATEWAYS, 4, 1), kinds.GATEWAY, "gateway g"),
    # --- what owners are shown of their devices
    "a device's total": (row(items.DEVICES, 6, lambda old: old + 1), kinds.DEVICE, "device d"),
    "a device's micro-credits": (row(items.DEVICES, 8, lambda old: old + 1), kinds.DEVICE, "device d"),
    "a device's totals are gone": (row(items.DEVICES, 5, None), kinds.DEVICE, "device d"),
    "a boot's newest seq": (row(items.BOOTS, 2, 999), kinds.DEVICE, "device d"),
    "a boot less": (lines(items.BOOTS, lambda old: old[1:]), kinds.DEVICE, "device d"),
    "a stored report's digest": (row(items.REPORTS, 5, bytes(16)), kinds.STORED_REPORT, "device d"),
    "a stored report's samples": (row(items.REPORTS, 6, 64), kinds.STORED_REPORT, "device d"),
    "a stored report's place": (row(items.REPORTS, 3, 2), kinds.STORED_REPORT, "device d"),
    "a stored report less": (lines(items.REPORTS, lambda old: old[:-1]), kinds.STORED_REPORT, "device d"),
    "a stored report twice": (
        lines(items.REPORTS, lambda old: [old[0], *old]),
        kinds.STORED_REPORT,
        "device d",
    ),
    "a stored report that never was": (
        lines(items.REPORTS, lambda old: [*old, (*old[-1][:2], 4_000, *old[-1][3:])]),
        kinds.STORED_REPORT,
        "seq 4000",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_each_kind_of_lie_is_found_and_named(network: Network, name: str) -> None:
    tamper, kind, where = CASES[name]
    honest = read_items(network.export())
    told = tamper(network, [*honest])
    assert told != honest
    (finding,) = verify(write_items(told)).findings
    assert finding.kind == kind, finding
    assert where in finding.where, finding
    assert finding.expected != finding.found


@pytest.mark.threat(8)
def test_what_a_gateway_and_the_backend_forge_together_is_found_with_the_devices_keys(
    network: Network,
) -> None:
    forged = write_items(resigned_batch(0, other_value)(network, read_items(network.export())))
    (finding,) = verify(forged, report_keys=network.report_keys).findings
    assert finding.kind == kinds.VERDICT
    assert "entry 0, batch" in finding.where
    assert "report 0 (device d" in finding.where
    assert finding.expected.startswith("bad_mac")
    assert finding.found == "accepted"


def test_a_right_mac_called_wrong_is_found_with_the_devices_keys(network: Network) -> None:
    slandered = write_items(lie(0, with_verdict(0, BAD_MAC))(network, read_items(network.export())))
    (finding,) = verify(slandered, report_keys=network.report_keys).findings
    assert (finding.kind, finding.expected, finding.found) == (kinds.VERDICT, "accepted", "bad_mac")


@pytest.mark.threat(13)
def test_a_log_that_was_written_anew_is_found_by_who_remembers_a_head(network: Network) -> None:
    """Everything fits, every signature is right, and it is another history than the one that was shown."""
    honest = read_items(network.export())
    heads = [item.head for item in honest if isinstance(item, Entry)]
    cut = [item for item in honest if not isinstance(item, Rows)]
    forked = change(
        cut, entry(9), lambda item: settled(item, received_ms=settlement_of(item).received_ms + 1)
    )
    told = write_items(sign_again(forked, LOG_SEED))
    (finding,) = verify(told, heads=heads[-1:]).findings
    assert (finding.kind, finding.where.split(",")[0]) == (kinds.HEAD, "head of 10 entries")
    assert "forked" in finding.what


@pytest.mark.threat(13)
def test_a_log_that_was_cut_is_found_by_who_remembers_a_head(
    world_with_limits: Any, network: Network
) -> None:
    honest = read_items(network.export())
    (last,) = [item for item in honest if isinstance(item, Entry) and item.index == 9]
    shorter = Network(world_with_limits, [], {})
    report = verify(shorter.export(), heads=[last.head])
    (finding,) = report.findings
    assert finding.kind == kinds.HEAD
    assert "cut" in finding.what
    assert finding.expected == "at least 10 entries"


def test_another_log_key_than_the_one_that_is_known(network: Network) -> None:
    (finding,) = verify(network.export(), log_public_key=ed25519.public_key(bytes(32))).findings
    assert (finding.kind, finding.where) == (kinds.LOG_KEY, "header")


def test_a_header_that_names_another_key(network: Network) -> None:
    told = change(
        read_items(network.export()),
        lambda item: isinstance(item, Header),
        lambda item: replace(item, log_public_key=ed25519.public_key(bytes(32))),
    )
    (finding,) = verify(write_items(told)).findings
    assert finding.kind == kinds.HEAD


def test_all_lies_are_listed_where_more_are_wanted(network: Network) -> None:
    told = read_items(network.export())
    for index in (1, 3):
        told = in_batch(index, sample_count=99)(network, told)
    told = row(items.ACCOUNTS, 4, 5)(network, told)
    report = verify(write_items(told), findings_max=10)
    assert [finding.kind for finding in report.findings] == [kinds.BATCH, kinds.BATCH, kinds.ACCOUNT]
    assert len(verify(write_items(told), findings_max=2).findings) == 2


def test_public_parts_show_a_missing_batch(network: Network) -> None:
    left = dropped(3, signed_again=True)(network, read_items(network.export(items.PUBLIC)))
    (finding,) = verify(write_items(left)).findings
    assert finding.kind == kinds.CHAIN
    assert "entry 5" in finding.where
