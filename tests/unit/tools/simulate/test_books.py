"""The books find each kind of disagreement: nothing here needs a backend, only what one would have stored."""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from surge_backend.ledger.tariffs import FIRST_TARIFF
from surge_cli.simulate.books import Record, accepted_violations, credited_violations
from surge_cli.simulate.claims import clone_violations, flood_violations, replay_violations
from surge_cli.simulate.journal import Journal
from surge_cli.simulate.plan import Plan, Role, Wrongs
from surge_wire.verdicts import BAD_MAC, EQUIVOCATION, MALFORMED

RECORD = Record(
    accepted=frozenset({(1, 0), (1, 2)}),
    reports=2,
    samples=6,
    bytes=250,
    owner_numerators=FIRST_TARIFF.owner_numerators(6, 250),
)


def journal() -> Journal:
    """Three reports, the second of them lost for ever."""
    made = Journal()
    for seq, length in enumerate((100, 120, 150)):
        made.sealed(("d", 1, seq), 3, length, 0)
    made.lost_for_ever(("d", 1, 1), 3, 120)
    return made


def violations(record: Record) -> list[str]:
    records = {"d": record}
    return [
        *accepted_violations(["d"], records, journal()),
        *credited_violations(["d"], records, journal(), FIRST_TARIFF),
    ]


def test_honest_books_agree() -> None:
    assert violations(RECORD) == []
    assert list(accepted_violations(["silent"], {"silent": Record()}, journal())) == []


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"accepted": frozenset({(1, 0)})}, "report 2 of boot 1 of d was made and is not accepted"),
        ({"accepted": RECORD.accepted | {(1, 1)}}, "report 1 of boot 1 of d is accepted and was never made"),
        ({"accepted": RECORD.accepted | {(2, 0)}}, "report 0 of boot 2 of d is accepted and was never made"),
        ({"refused_names": frozenset({(1, 2)})}, "report 2 of boot 1 of d is honest and was refused"),
        ({"samples": 7}, "7 in 250 are counted"),
        ({"bytes": 251}, "6 in 251 are counted"),
        ({"owner_numerators": RECORD.owner_numerators - 1}, "parts of a micro-credit"),
    ],
)
def test_each_disagreement_is_found(changed: dict[str, Any], said: str) -> None:
    (found,) = violations(replace(RECORD, **changed))
    assert said in found


def test_a_clone_has_to_be_frozen_for_a_reason() -> None:
    made = journal()
    made.cloned["d"] = "equivocated"
    frozen = Record("frozen", rejected=Counter({EQUIVOCATION: 1}))
    assert list(clone_violations(made, {"d": frozen})) == []
    assert len(list(clone_violations(made, {"d": Record("frozen")}))) == 1
    assert len(list(clone_violations(made, {"d": Record("active")}))) == 2


def gateway(duplicates: int = 0, **refused: int) -> dict[str, Any]:
    reasons = {"id_mismatch": 0, "over_quota": 0, "malformed": 0} | refused
    return {"reports": {"duplicates": duplicates, "refused": reasons}}


def test_replays_leave_their_traces() -> None:
    made = journal()
    assert list(replay_violations(made, [gateway()])) == []
    made.counts.update(replays=3, replays_in_foreign_names=2)
    assert list(replay_violations(made, [gateway(3, id_mismatch=1), gateway(id_mismatch=1)])) == []
    assert len(list(replay_violations(made, [gateway(0, id_mismatch=2)]))) == 1
    assert len(list(replay_violations(made, [gateway(3)]))) == 1
    assert len(list(replay_violations(made, [gateway(3, id_mismatch=3)]))) == 1


def test_floods_leave_their_traces() -> None:
    plan = Plan(1, 1, Wrongs(floods=1))
    assert plan.role(0) is Role.FLOODER
    made = journal()
    rejected = {"d": Record(rejected=Counter({BAD_MAC: 5, MALFORMED: 1}))}
    refused = [gateway(over_quota=9, malformed=3)]
    assert list(flood_violations(plan, made, ["d"], {"d": Record()}, [gateway()])) == []
    made.counts["floods"] = 1
    assert list(flood_violations(plan, made, ["d"], rejected, refused)) == []
    assert len(list(flood_violations(plan, made, ["d"], {"d": Record()}, refused))) == 2
    assert len(list(flood_violations(plan, made, ["d"], rejected, [gateway()]))) == 2
