"""What `surge simulate` refuses before it starts anything, and what it makes of the rest."""

import pytest

from surge_cli.main import EXIT_USER_ERROR, main
from surge_cli.simulate.options import Options, parse_options
from surge_cli.simulate.plan import HOSTILE, Wrongs


def options(*arguments: str) -> Options:
    return parse_options(arguments)


@pytest.mark.parametrize(
    ("arguments", "where"),
    [
        (["--devices", "0"], "--devices 0"),
        (["--devices", "10", "--rate", "100000"], "--rate 100000"),
        (["--rate", "0"], "--rate 0"),
        (["--interval", "0"], "--interval 0"),
        (["--seconds", "0"], "--seconds 0"),
        (["--seconds", "nan"], "--seconds nan"),
        (["--reports", "0"], "--reports 0"),
        (["--loss", "2"], "--loss 2"),
        (["--seed", "-1"], "--seed -1"),
        (["--gateways", "99"], "--gateways 99"),
        (["--clones", "0.9", "--floods", "0.9"], "--clones"),
        (["--keep", "."], "."),
        (["--rate", "5", "--interval", "5"], "--help"),
    ],
)
def test_wrong_options_are_named(
    arguments: list[str], where: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["simulate", *arguments]) == EXIT_USER_ERROR
    said = capsys.readouterr().err
    assert where in said
    assert "remedy:" in said
    assert len(said.splitlines()) == 3


def test_a_rate_is_of_all_devices_together() -> None:
    assert options("--devices", "1000", "--rate", "200").interval_ms == 5_000
    assert options("--interval", "2").interval_ms == 2_000


def test_it_ends_by_itself_in_any_case() -> None:
    assert options().seconds == 30
    assert options("--reports", "100").seconds is None
    assert options("--reports", "100", "--seconds", "9").seconds == 9


def test_options_change_a_preset() -> None:
    assert options().plan.wrongs == Wrongs()
    assert options("--plan", "hostile").plan.wrongs == HOSTILE
    changed = options("--plan", "hostile", "--loss", "0", "--skew", "1").plan.wrongs
    assert (changed.loss, changed.skew, changed.duplicate) == (0, 1, HOSTILE.duplicate)
