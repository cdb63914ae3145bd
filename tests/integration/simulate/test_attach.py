"""`surge simulate --attach`: devices enrolled over the API of a network that runs already, then retired."""

import json
import time
from pathlib import Path

import pytest

from surge_backend.opening import opened_database
from surge_backend.registry.token_rows import issue_token
from surge_backend.registry.tokens import Role
from surge_cli.main import EXIT_USER_ERROR, main
from surge_cli.simulate.command import simulate
from surge_cli.simulate.journal import Journal
from surge_cli.simulate.options import parse_options
from surge_cli.simulate.site import Site

MORE = "--clones 0.2 --loss 0.1 --json"


async def test_devices_come_work_are_paid_and_go(tmp_path: Path) -> None:
    site = Site(tmp_path, lambda _line: None, devices=1)
    try:
        await site.start()
        with opened_database(site.settings) as database, database.write() as connection:
            token = issue_token(connection, Role.OWNER, site.owner_id, "attached", time.time_ns() // 10**6)
        (tmp_path / "owner.token").write_text(token.token)
        attachment = tmp_path / "attach.toml"
        addresses = [f"{one.host}:{one.port}" for one in site.addresses]
        attachment.write_text(
            f'[backend]\nurl = "{site.backend.url}"\nowner_token_file = "owner.token"\n'
            f"[gateways]\naddresses = {json.dumps(addresses)}\n"
        )
        options = parse_options(
            [*f"--attach {attachment} --devices 8 --interval 0.2 --reports 80".split(), *MORE.split()]
        )
        journal = Journal()
        ending, books = await simulate(options, tmp_path, journal)
        assert books.good, books.checks
        assert ending.undrained == 0
        assert journal.counts["sealed"] == 80
        assert books.frozen == len(journal.cloned) == 2
        assert 0 < books.accepted <= 82
        listed = await site.public.get("/v1/stats")
        assert listed["reports_accepted"] == books.accepted
        with opened_database(site.settings) as database, database.read() as connection:
            counted = connection.exec_driver_sql("SELECT status, count(*) FROM devices GROUP BY status")
            assert {row[0]: row[1] for row in counted} == {"active": 1, "retired": 8}
    finally:
        await site.stop()


@pytest.mark.parametrize(
    ("url", "addresses", "where"),
    [
        ("", '["a:1"]', "[backend] url"),
        ("ftp://a.example", '["a:1"]', "[backend] url"),
        ("http://a.example", '["a:1"]', "[backend] url"),
        ("http://localhost", '["a"]', "'a'"),
        ("http://localhost", "[]", "addresses"),
        ("http://localhost", "7", "addresses"),
    ],
)
def test_a_wrong_file_is_named(
    url: str, addresses: str, where: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "t").write_text("surge_owner_x")
    file = tmp_path / "attach.toml"
    file.write_text(
        f'[backend]\nurl = "{url}"\nowner_token_file = "t"\n[gateways]\naddresses = {addresses}\n'
    )
    assert main(["simulate", "--attach", str(file)]) == EXIT_USER_ERROR
    said = capsys.readouterr().err
    assert where in said
    assert "remedy:" in said


def test_a_missing_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", "--attach", str(tmp_path / "none.toml")]) == EXIT_USER_ERROR
    assert "none.toml" in capsys.readouterr().err
