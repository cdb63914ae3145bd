"""Settings of the store: what can't work is refused, and a secret is never shown."""

from pathlib import Path
from typing import Any

import pytest

from surge_backend.telemetry.duckdb_store import DuckDbStore
from surge_backend.telemetry.factory import TelemetrySettings, TelemetrySettingsError, make_store, open_store
from surge_backend.telemetry.influx1_store import Influx1Store
from surge_backend.telemetry.influx2_store import Influx2Store
from surge_backend.telemetry.store import StoreUnavailable

SERVER = "http://127.0.0.1:8086"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"kind": "influx3"}, "duckdb, influx1, influx2"),
        ({"kind": "influx2", "query": "flux"}, "influxql, prometheus"),
        ({"path": ""}, "path must be set"),
        ({"kind": "influx1"}, "url must be set"),
        ({"kind": "influx1", "url": "host:8086"}, "http://host:8086"),
        ({"kind": "influx1", "url": "ftp://host"}, "http://host:8086"),
        ({"kind": "influx1", "url": SERVER + "?u=me&p=hunter2"}, "http://host:8086"),
        ({"kind": "influx1", "url": "http://me:hunter2@host"}, "holds credentials"),
        ({"kind": "influx1", "url": SERVER, "user": "u", "token": "t"}, "not both"),
        ({"kind": "influx2", "url": SERVER, "bucket": "b"}, "org must be set"),
        ({"kind": "influx2", "url": SERVER, "org": "o"}, "bucket must be set"),
        ({"timeout_s": 0}, "timeout_s must be above 0"),
        ({"threads": 0}, "threads must be above 0"),
        ({"durability_lag_ms": -1}, "0 or more"),
    ],
)
def test_settings_that_cannot_work_are_refused(given: dict[str, Any], says: str) -> None:
    with pytest.raises(TelemetrySettingsError, match=says) as caught:
        TelemetrySettings(**given)
    assert "hunter2" not in str(caught.value)


@pytest.mark.threat(25)
def test_row_25_secrets_are_not_shown() -> None:
    settings = TelemetrySettings(kind="influx1", url=SERVER, user="u", password="hunter2")
    assert "hunter2" not in repr(settings)
    assert "hunter3" not in repr(TelemetrySettings(kind="influx1", url=SERVER, token="hunter3"))


async def test_each_kind_makes_its_store(tmp_path: Path) -> None:
    for settings, kind in (
        (TelemetrySettings(path=str(tmp_path / "new" / "folder" / "t.duckdb")), DuckDbStore),
        (TelemetrySettings(kind="influx1", url=SERVER), Influx1Store),
        (TelemetrySettings(kind="influx2", url=SERVER, org="o", bucket="b", token="t"), Influx2Store),
        (TelemetrySettings(kind="influx2", url=SERVER, query="prometheus"), Influx2Store),
    ):
        store = await open_store(settings)  # a server may be down: opening doesn't dial
        assert isinstance(store, kind)
        await store.close()
        await store.close()


async def test_a_file_that_cannot_be_opened_shows_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreUnavailable, match="check that the folder"):
        await open_store(TelemetrySettings(path=str(tmp_path / "file" / "t.duckdb")))


def test_what_a_store_lacks_is_declared() -> None:
    assert make_store(TelemetrySettings(kind="influx1", url=SERVER)).capabilities.text
    lacking = make_store(TelemetrySettings(kind="influx2", url=SERVER, query="prometheus")).capabilities
    assert not lacking.text
    assert lacking.time_unit_ns == 1_000_000
    assert lacking.durability_lag_ms > 0
    assert lacking.unlike
