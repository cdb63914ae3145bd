"""The wire vectors, on CPython and on a real MicroPython, against the CDDL, and against their generator."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pycddl
import pytest

from surge_cli.micropython import Interpreter
from surge_wire import cose, receipt

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "protocol" / "vectors"


def load(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


RUNNER = load("surge_vector_runner", ROOT / "tests" / "vectors" / "runner.py")
MAKER = load("surge_vector_maker", ROOT / "tools" / "make_vectors.py")


def cases(name: str) -> list[dict[str, object]]:
    return list(json.loads((FOLDER / f"{name}.json").read_text())["cases"])


@pytest.mark.parametrize("name", sorted(RUNNER.RUNNERS))
def test_cpython_agrees_with_every_case(name: str) -> None:
    count, failures = RUNNER.run_file(str(FOLDER), name)
    assert failures == []
    assert count == len(cases(name)) > 0


def test_micropython_agrees_with_every_case(micropython: Interpreter) -> None:
    environment = {"MICROPYPATH": f"{ROOT / 'protocol'}:.frozen"}
    command = [
        *micropython.argv,
        "-X",
        "heapsize=2m",
        str(ROOT / "tests" / "vectors" / "runner.py"),
        str(FOLDER),
    ]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    total = sum(len(cases(name)) for name in RUNNER.RUNNERS)
    assert done.stdout.splitlines()[-1:] == [f"cases {total} failures 0"], done.stdout + done.stderr
    assert done.returncode == 0


@pytest.mark.parametrize("name", sorted(MAKER.FILES))
def test_files_are_what_the_generator_makes(name: str) -> None:
    assert (FOLDER / f"{name}.json").read_text() == MAKER.render(name)


def test_every_file_has_a_runner() -> None:
    assert (
        sorted(RUNNER.RUNNERS) == sorted(MAKER.FILES) == sorted(path.stem for path in FOLDER.glob("*.json"))
    )


@pytest.mark.parametrize("name", sorted(RUNNER.RUNNERS))
def test_case_names_are_unique(name: str) -> None:
    names = [case["name"] for case in cases(name)]
    assert len(names) == len(set(names))


# pycddl 0.6 can't follow `.cbor` in an array with more items, so what is embedded is checked against its
# own rule.
CDDL = re.sub(r"bstr \.cbor [a-z0-9-]+", "bstr", (ROOT / "protocol" / "spec" / "surge.cddl").read_text())


def schema(rule: str) -> pycddl.Schema:
    """The schema with ``rule`` as its root: CDDL takes the first rule of a file."""
    return pycddl.Schema(f"root = {rule}\n{CDDL}")


def embedded(data: bytes) -> tuple[bytes, bytes]:
    """Protected header and first proof (empty where there is none) of a COSE object."""
    envelope = cose.parse(data[0] & 31, data)
    proofs = envelope.unprotected.get(receipt.HEADER_VDP, {})
    return envelope.protected_bytes, next(iter(proofs.values()))[0] if proofs else b""


# vector file, kind of case, key of the bytes, rule of the whole, of the protected header, of the proof
CDDL_ROWS = [
    ("report", None, "envelope", "report-envelope", "mac0-protected", None),
    ("report", None, "payload", "report", None, None),
    ("ack", None, "ack", "ack", None, None),
    ("command", None, "envelope", "command-envelope", "mac0-protected", None),
    ("batch", None, "envelope", "batch-envelope", "sign1-protected", None),
    ("batch", None, "payload", "batch", None, None),
    ("senml", None, "pack", "pack", None, None),
    ("log", "settlement", "settlement", "settlement", None, None),
    ("log", "inclusion", "receipt", "receipt", "receipt-protected", "inclusion-proof"),
    ("log", "consistency", "receipt", "receipt", "receipt-protected", "consistency-proof"),
    ("log", "head", "head", "tree-head", "head-protected", None),
    ("log", "submission", "answer", "submission", None, None),
]


@pytest.mark.parametrize(("name", "kind", "key", "rule", "protected_rule", "proof_rule"), CDDL_ROWS)
def test_valid_cases_satisfy_the_cddl(
    name: str, kind: str | None, key: str, rule: str, protected_rule: str | None, proof_rule: str | None
) -> None:
    chosen = [case for case in cases(name) if case["valid"] and kind in (None, case.get("kind"))]
    assert chosen
    for case in chosen:
        data = bytes.fromhex(str(case[key]))
        schema(rule).validate_cbor(data)
        if protected_rule:
            schema(protected_rule).validate_cbor(embedded(data)[0])
        if proof_rule:
            schema(proof_rule).validate_cbor(embedded(data)[1])


@pytest.mark.parametrize(
    ("rule", "data"),
    [
        ("report", "a301f5020003191000"),  # boot is true
        ("ack", "a3010702800300"),  # no ranges
        ("batch", "a0"),
    ],
)
def test_cddl_refuses_what_is_wrong(rule: str, data: str) -> None:
    with pytest.raises(pycddl.ValidationError):
        schema(rule).validate_cbor(bytes.fromhex(data))
