"""A network with everything that can happen to one, settled by the real `Ingest`, and its export."""

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from surge_backend.audit import items
from surge_backend.audit.exporting import Source, export_parts
from surge_backend.audit.framing import frame, read_frames
from surge_backend.audit.items import Entry, Item, decode_item, encode_item
from surge_backend.audit.verifying import Options, Report, verify_export
from surge_backend.ledger.pricing import Tariff
from surge_backend.ledger.tariffs import add_tariff
from surge_backend.log import MerkleLog
from surge_backend.log.frontier import Frontier
from surge_backend.registry.device_rows import retire_device, unfreeze_device
from surge_backend.registry.gateway_rows import revoke_gateway
from surge_backend.verify.limits import VerifyLimits
from surge_wire.batch import Summarised, Window
from surge_wire.hkdf import INFO_REPORT, derive_key
from surge_wire.merkle import EMPTY_ROOT, leaf_hash
from surge_wire.receipt import TreeHead, encode_inclusion_receipt, seal_tree_head
from surge_wire.settlement import Settlement, decode_settlement, encode_settlement
from surge_wire.submission import encode_submission

LIMITS = VerifyLimits(boot_gap_max=50, seq_gap_max=100, boot_window=2, late_ms_max=10_000, reorder_window=5)


@dataclass
class Network:
    """The world, and who is who in it."""

    world: Any
    gateways: list[Any]
    devices: dict[str, Any]

    def source(self) -> Source:
        world = self.world
        return Source(world.database, world.log.public_key, lambda: world.now_ms, LIMITS)

    def export(self, scope: int = items.FULL, **more: Any) -> bytes:
        return b"".join(export_parts(self.source(), scope, **more))

    @property
    def report_keys(self) -> dict[str, bytes]:
        return {board.id: derive_key(board.secret, INFO_REPORT) for board in self.devices.values()}


def hostile_network(world: Any) -> Network:
    """Every verdict there is, freezing by both kinds of evidence, releases, tariffs, windows, revocation."""
    one, two, gone = world.gateway(), world.gateway(), world.gateway()
    owner = world.owner()
    names = ("plain", "clone", "forked", "sold", "late", "jumpy")
    devices = {name: world.device(owner if name in ("plain", "late") else None) for name in names}
    devices["served"] = world.device(gateway=two)
    plain, clone, forked = devices["plain"], devices["clone"], devices["forked"]
    sold, late, jumpy, served = devices["sold"], devices["late"], devices["jumpy"], devices["served"]
    stranger = type(plain)("d" + "z" * 16, bytes(32), owner)

    def send(gateway: Any, *reports: bytes, **more: Any) -> None:
        world.now_ms += 1_000
        world.send(gateway, *reports, **more)

    send(one, *(board.seal(1, 0, samples=5) for board in devices.values()))
    send(two, plain.seal(1, 1), clone.seal(1, 0, samples=5), b"no report", stranger.seal(1, 0))
    send(gone, plain.seal(1, 2, key=bytes(32)), plain.seal(1, 2), plain.seal(1, 2))
    send(one, clone.seal(1, 1), clone.seal(1, 0, samples=4), clone.seal(1, 2), clone.seal(1, 1))
    with world.database.write() as connection:
        add_tariff(connection, Tariff(2, world.now_ms + 1_500, 33, 77, 1_234), world.now_ms)
        revoke_gateway(connection, gone.id, None, world.now_ms)
    send(two, clone.seal(1, 3), forked.seal(1, 7))
    with world.database.write() as connection:
        unfreeze_device(connection, clone.id, "looked at", world.now_ms)
        retire_device(connection, sold.id, None, "sold", world.now_ms)
    send(
        two, clone.seal(1, 3), clone.seal(1, 0, samples=4), sold.seal(1, 1), forked.seal(2, 0, previous_end=3)
    )
    late_one = world.device(owner)
    devices["newcomer"] = late_one
    send(one, late_one.seal(1, 0), late.seal(1, 40), late.seal(1, 2), late.seal(1, 41, usage=None))
    send(one, jumpy.seal(1, 500), jumpy.seal(60, 0), jumpy.seal(3, 0), jumpy.seal(9, 0), jumpy.seal(1, 1))
    window = Window(served.id, "t", "Cel", 1, 2, 3, 1.0, 2.0, 3.0)
    foreign = Window(plain.id, "t", "Cel", 1, 2, 3, 1.0, 2.0, 3.0)
    summary = Summarised(served.id, 1, [(1, 4)])
    send(two, served.seal(1, 5), windows=[window, foreign], summarised=[summary])
    with world.database.write() as connection:
        retire_device(connection, forked.id, None, "stolen", world.now_ms)
        unfreeze_device(connection, forked.id, "looked at", world.now_ms)
    send(two)
    return Network(world, [one, two, gone], devices)


@pytest.fixture(scope="session")
def network(tmp_path_factory: pytest.TempPathFactory, open_at: Any) -> Iterator[Network]:
    """Built once; tests only read its database."""
    world = open_at(str(tmp_path_factory.mktemp("audit") / "surge.db"), LIMITS)
    yield hostile_network(world)
    world.database.close()


@pytest.fixture
def own_network(world_with_limits: Any) -> Network:
    """One of the test's own, to write to."""
    return hostile_network(world_with_limits)


@pytest.fixture
def world_with_limits(database_url: str, open_at: Any) -> Iterator[Any]:
    """On each kind of database."""
    world = open_at(database_url, LIMITS)
    yield world
    world.database.close()


def verify(data: bytes, **options: Any) -> Report:
    """Verify an export's bytes."""
    return verify_export(io.BytesIO(data), Options(**options))


def read_items(data: bytes) -> list[Item]:
    """The items of an export."""
    return [decode_item(item) for _, item in read_frames(io.BytesIO(data))]


def write_items(found: list[Item]) -> bytes:
    """An export of these items."""
    return b"".join(frame(encode_item(item)) for item in found)


def change(found: list[Item], wanted: Callable[[Item], bool], made: Callable[[Any], Any]) -> list[Item]:
    """The items, with the first that is ``wanted`` replaced by what is ``made`` of it: item, list, None."""
    for place, item in enumerate(found):
        if wanted(item):
            new = made(item)
            parts = [] if new is None else new if isinstance(new, list) else [new]
            return [*found[:place], *parts, *found[place + 1 :]]
    raise AssertionError("nothing in the export is what the test wants to change")


def entry(index: int) -> Callable[[Item], bool]:
    """Is it that entry?"""
    return lambda item: isinstance(item, Entry) and item.index == index


def rows(kind: int) -> Callable[[Item], bool]:
    """Is it rows of that kind?"""
    return lambda item: isinstance(item, items.Rows) and item.kind == kind


def settled(item: Entry, **changes: Any) -> Entry:
    """The entry with another settlement, its log's signatures left as they are."""
    settlement = decode_settlement(item.settlement)
    for name, value in changes.items():
        setattr(settlement, name, value)
    return replace(item, settlement=encode_settlement(settlement))


def settlement_of(item: Entry) -> Settlement:
    """An entry's settlement."""
    return decode_settlement(item.settlement)


def sign_again(found: list[Item], seed: bytes) -> list[Item]:
    """What a lying backend does: nodes, heads and receipts made anew over the settlements that are there."""
    log = MerkleLog(seed)
    tree = Frontier(0, EMPTY_ROOT, {})
    out: list[Item] = []
    for item in found:
        if isinstance(item, Entry):
            index = tree.size
            tree, made, path = tree.append(leaf_hash(item.settlement))
            head = seal_tree_head(log.kid, log._key, TreeHead(tree.size, tree.root, item.head_time_ms))
            receipt = encode_inclusion_receipt(log.kid, log._key, index, tree.size, path, tree.root)
            answer = encode_submission(item.settlement, receipt)
            nodes = list(made.values())
            item = replace(item, index=index, answer=answer, head=head, head_root=tree.root, nodes=nodes)
        out.append(item)
    return out
