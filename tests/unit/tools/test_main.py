"""The dispatcher: quick, and clear about what went wrong."""

import subprocess
import sys
from pathlib import Path

import pytest

from surge_cli import main as subject
from surge_cli.main import SUB_COMMANDS, SubCommand, main
from surge_host import __version__

MODULE = """
from surge_host.errors import UserError

SUMMARY = "Says hello."

def add_arguments(parser):
    parser.add_argument("--times", type=int, default=1)
    parser.add_argument("rest", nargs="*")

def run(args):
    if args.times == 0:
        raise UserError("nothing to say", "--times", "ask for at least one")
    if args.times < 0:
        raise KeyboardInterrupt
    print(args.times, *args.rest)
    return args.times
"""


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Commands of our own: one that works, one that passes arguments on, and some that can't be imported."""
    (tmp_path / "hello_cli.py").write_text(MODULE)
    (tmp_path / "needy_cli.py").write_text("import a_package_that_nobody_has.core")
    (tmp_path / "broken_cli.py").write_text("import surge_wire.no_such_module")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(
        subject,
        "SUB_COMMANDS",
        (
            SubCommand("hello", "hello_cli", "say hello"),
            SubCommand("pass", "hello_cli", "say hello, passing arguments on", passes_arguments=True),
            SubCommand("needy", "needy_cli", "need something", extra="backend"),
            SubCommand("broken", "broken_cli", "be broken"),
            SubCommand("absent", "surge_cli.no_such_command", "be absent"),
        ),
    )


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    text = capsys.readouterr().out
    assert all(command.name in text and command.summary in text for command in SUB_COMMANDS)


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], []])
def test_help_imports_no_sub_command(arguments: list[str]) -> None:
    script = (
        "import sys\nfrom surge_cli.main import main, SUB_COMMANDS\n"
        f"try:\n    main({arguments!r})\nexcept SystemExit:\n    pass\n"
        "own = [command.module for command in SUB_COMMANDS]\n"
        "heavy = ['asyncio', 'cbor2', 'fastapi', 'gmqtt', 'rich', 'surge_backend', 'surge_gateway']\n"
        "print('loaded:', [name for name in own + heavy if name in sys.modules])\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert result.stdout.splitlines()[-1] == "loaded: []"


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"surge {__version__}\n"


@pytest.mark.usefixtures("commands")
class TestDispatch:
    def test_exit_code_is_the_commands(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["hello", "--times", "3"]) == 3
        assert capsys.readouterr().out == "3\n"

    def test_help_of_a_command(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as caught:
            main(["hello", "--help"])
        assert caught.value.code == 0
        assert "Says hello." in capsys.readouterr().out

    @pytest.mark.parametrize(
        ("given", "passed"),
        [
            (["-c", "print(1)"], "1 -c print(1)"),
            (["--times=2", "-X", "heapsize=1m", "--times"], "2 -X heapsize=1m --times"),
            (["--", "--times"], "1 --times"),
            ([], "1"),
        ],
    )
    def test_arguments_of_another_program_are_passed_on(
        self, capsys: pytest.CaptureFixture[str], given: list[str], passed: str
    ) -> None:
        main(["pass", *given])
        assert capsys.readouterr().out == passed + "\n"

    def test_a_user_error_is_three_lines_and_exit_code_2(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["hello", "--times", "0"]) == 2
        assert capsys.readouterr().err == (
            "surge: nothing to say\n  where:  --times\n  remedy: ask for at least one\n"
        )

    def test_wrong_arguments_are_a_user_error(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["hello", "--times", "many"]) == 2
        assert capsys.readouterr().err == (
            "surge: argument --times: invalid int value: 'many'\n"
            "  where:  surge hello\n  remedy: see `surge hello --help`\n"
        )

    def test_ctrl_c_is_130(self) -> None:
        assert main(["hello", "--times", "-1"]) == 130

    def test_an_unknown_command_suggests_the_nearest(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["helo"]) == 2
        assert "did you mean `surge hello`?" in capsys.readouterr().err

    def test_an_unknown_command_without_a_near_one(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["xyzzy"]) == 2
        assert "`surge --help` lists the commands" in capsys.readouterr().err

    def test_a_missing_package_names_the_extra(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["needy"]) == 2
        text = capsys.readouterr().err
        assert "a_package_that_nobody_has" in text
        assert "pip install 'surge-depin[backend]'" in text

    def test_a_command_that_this_build_lacks(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["absent"]) == 2
        assert "no such command" in capsys.readouterr().err

    def test_a_fault_of_ours_is_not_blamed_on_the_person(self) -> None:
        with pytest.raises(ModuleNotFoundError, match="surge_wire"):
            main(["broken"])
