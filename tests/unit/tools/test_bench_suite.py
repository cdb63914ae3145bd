"""The bench suite's collector: one table and one JSON of what benches print, whatever becomes of some."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCHES = Path(__file__).parents[2] / "bench"
RUNNER = BENCHES / "run_all.py"


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"bench_{name}", BENCHES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


suite = _load("suite")
NAMED = {
    "gateway_ratio",
    "gateway_ratio_by_devices",
    "backend_ratio",
    "backend_ratio_by_devices",
    "credit_latency_p50_s",
    "credit_latency_p99_s",
    "credit_latency_flood_p50_s",
    "credit_latency_flood_p99_s",
    "gateway_rss_mib",
    "device_report_us",
    "device_report_bytes_allocated",
    "verify_reports_per_s",
    "log_append_per_s",
}


def bench(name: str) -> object:
    return suite.find([name])[0]


def outcome(name: str, result: dict[str, object] | None, failure: str = "") -> object:
    return suite.Outcome(bench(name), 1.0, result, failure)


def test_every_figure_has_its_place_in_the_document() -> None:
    document = suite.collect([], {"revision": "r"})
    assert document.keys() >= NAMED
    assert [document[name] for name in NAMED] == [None] * len(NAMED)
    assert document["revision"] == "r"


def test_no_two_benches_give_the_same_figure() -> None:
    names = [figure.name for each in suite.BENCHES for figure in each.figures]
    assert len(names) == len(set(names))
    assert set(names) == NAMED


def test_measured_figures_spread_and_targets() -> None:
    document = suite.collect(
        [
            outcome(
                "gateway_ingest",
                {
                    "gateway_ratio": 0.55,
                    "gateway_ratio_by_devices": {"100": 0.55, "10000": 0.5},
                    "spread": {"gateway_ratio": [0.5, 0.6]},
                },
            ),
            outcome("gateway_memory", {"gateway_rss_mib": {"1000": 80.0, "10000": 150.0}}),
        ],
        {},
    )
    assert document["gateway_ratio"] == 0.55
    assert document["spread"] == {"gateway_ratio": [0.5, 0.6]}
    assert document["reached"] == {"gateway_ratio": False, "gateway_rss_mib/10000": True}


def test_a_failed_bench_is_named_and_its_figures_are_null() -> None:
    failed = outcome("log_append", None, "exit code 3")
    document = suite.collect([failed, outcome("verify_export", {"verify_reports_per_s": 9})], {})
    assert document["failed"] == {"log_append": "exit code 3"}
    assert document["log_append_per_s"] is None
    assert document["verify_reports_per_s"] == 9
    assert "log_append_per_s" not in document["reached"]
    assert [(row.measured, row.reached) for row in suite.rows([failed])] == [("failed", False)]


def test_a_size_that_was_left_out_is_said_in_the_table() -> None:
    rows = suite.rows([outcome("gateway_memory", {"gateway_rss_mib": {"1000": 80.0}})])
    assert [(row.name, row.measured) for row in rows] == [
        ("gateway_rss_mib, 1,000 devices", "80"),
        ("gateway_rss_mib, 10,000 devices", "not measured"),
    ]


@pytest.mark.parametrize(
    ("printed", "why"),
    [
        ("", "nothing"),
        ("1,500 leaves\n", "isn't JSON"),
        ("[1500]\n", "isn't a JSON object"),
        ("{}\n", "no number for log_append_per_s"),
        ('{"log_append_per_s": "1500"}\n', "no number"),
        ('{"log_append_per_s": true}\n', "no number"),
        ('{"log_append_per_s": null}\n', "no number"),
    ],
)
def test_output_without_the_figure_is_a_failure(printed: str, why: str) -> None:
    with pytest.raises(suite.NoResult, match=why):
        suite.parse_output(bench("log_append"), printed)


def test_a_map_of_figures_holds_numbers() -> None:
    parse = suite.parse_output
    assert parse(bench("gateway_memory"), 'said\n{"gateway_rss_mib": {"1000": 80}}\n')
    with pytest.raises(suite.NoResult):
        parse(bench("gateway_memory"), '{"gateway_rss_mib": {"1000": null}}')
    with pytest.raises(suite.NoResult):
        parse(bench("gateway_memory"), '{"gateway_rss_mib": {}}')


def test_an_unknown_bench_is_an_error_that_names_the_known_ones(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(RUNNER), "gateway_ingset", "--out", str(tmp_path / "x.json")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "gateway_ingset" in done.stderr
    assert "gateway_ingest" in done.stderr


def test_one_bench_for_real(tmp_path: Path) -> None:
    out = tmp_path / "bench.json"
    done = subprocess.run(
        [sys.executable, str(RUNNER), "device_report", "--quick", "--out", str(out)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads(out.read_text())
    assert document["device_report_us"] > 0
    assert document["device_report_bytes_allocated"] > 0
    assert document["failed"] == {}
    assert document["gateway_ratio"] is None
    assert document["machine"]["cores"] >= 1
    assert "device_report_us" in done.stdout
