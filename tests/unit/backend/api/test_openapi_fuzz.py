"""Requests made from the OpenAPI description, sound ones and wrong ones, for every operation and every role.

Schemathesis makes them; each goes to a real server with real data in it once for every kind of token. What
may not come back: a 5xx, an answer that the description doesn't have, an invalid request that is accepted, an
answer to someone who may not ask. `SURGE_FUZZ_EXAMPLES` lengthens the search.
"""

import itertools
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from .served import Site, served_site
from .test_access import BODIES, ENROLMENT, EVERYONE, TABLE

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
]
PAGES = ("/", "/docs", "/openapi.json", "/pages/{name}")
DESCRIBED = sorted(name for name in TABLE if name.split()[1] not in PAGES)
SEARCH = settings(
    max_examples=max(4, settings().max_examples // 25),
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
NO_PATH = re.compile("%(2f|[01][0-9a-f]|7f)", re.IGNORECASE)  # whose other spellings are no paths of ours
REFUSED = {401, 403}
UNREADABLE = {400, 413, 415, 422}  # a body that is no JSON is seen to be none before anyone asks who sent it

# Every kind of token, and the role that it is good for.
ROLES = {
    "admin": "admin",
    "owner": "owner",
    "other owner": "owner",
    "gateway": "gateway",
    "auditor": "auditor",
    "enrolment": ENROLMENT,
    "unknown": "",
    "nobody": "",
}


@schemathesis.serializer("application/cose")
def as_bytes(_context: Any, value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with served_site(tmp_path_factory.mktemp("site")) as site:
        yield site


@pytest.fixture(scope="module")
def schema(site: Site) -> Any:
    return schemathesis.openapi.from_dict(site.openapi)


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        yield session


def may(name: str, role: str) -> bool:
    allowed = TABLE[name]
    return allowed is EVERYONE or role == allowed or (allowed != ENROLMENT and role in allowed)


def make_real(case: Case, site: Site, pick: int) -> None:
    """Ids that are there instead of ids of the right shape, so that requests get deep."""
    for name, value in (case.path_parameters or {}).items():
        known = site.ids.get(name)
        if known and isinstance(value, str) and looks_sound(name, value):
            case.path_parameters[name] = known[pick % len(known)]
    if isinstance(case.body, dict):
        for name in ("owner_id", "gateway_id"):
            value = case.body.get(name)
            if isinstance(value, str) and looks_sound(name, value):
                case.body[name] = site.ids[name][pick % len(site.ids[name])]


def looks_sound(name: str, value: str) -> bool:
    shapes = {"device_id": "d[a-z2-7]{16}", "gateway_id": "g[a-z2-7]{16}", "owner_id": "o[a-z2-7]{16}"}
    shapes |= {"batch_hash": "[0-9a-f]{64}", "index": "[0-9]{1,3}"}
    return re.fullmatch(shapes.get(name, "(?!)"), value) is not None


def send_as_everyone(name: str, case: Case, site: Site, session: requests.Session) -> None:
    send(name, case, site, session, ROLES)


def send(name: str, case: Case, site: Site, session: requests.Session, everyone: Iterable[str]) -> None:
    for who in everyone:
        role = ROLES[who]
        headers = site.tokens[who]
        answer = case.call(base_url=site.url, session=session, headers=headers)
        if NO_PATH.search(urlsplit(answer.request.url).path):
            assert answer.status_code == 404, who
            continue
        if case.method != name.split()[0]:
            assert (answer.status_code, bool(answer.headers["allow"])) == (405, True), case.method
            continue
        case.validate_response(answer, checks=CHECKS, headers=headers)
        if not may(name, role):
            assert answer.status_code in REFUSED | UNREADABLE, (who, answer.status_code)
        if answer.status_code >= 400:
            assert "Traceback" not in answer.text


@pytest.mark.parametrize("name", DESCRIBED)
def test_random_requests(name: str, site: Site, schema: Any, session: requests.Session) -> None:
    method, path = name.split()
    described = site.openapi["paths"][path][method.lower()]
    modes = [GenerationMode.POSITIVE]
    if "parameters" in described or "requestBody" in described:  # else nothing can be wrong
        modes.append(GenerationMode.NEGATIVE)
    for mode in modes:

        @SEARCH
        @given(case=schema[path][method].as_strategy(generation_mode=mode), pick=st.integers(0, 3))
        def search(case: Case, pick: int) -> None:
            make_real(case, site, pick)
            send_as_everyone(name, case, site, session)

        search()


@pytest.mark.parametrize("name", DESCRIBED)
def test_every_bound_and_every_missing_part(
    name: str, site: Site, schema: Any, session: requests.Session
) -> None:
    method, path = name.split()
    operation = schema[path][method]
    cases = schema.iter_coverage_cases(
        operation, generation_modes=list(GenerationMode), generation_config=schema.config.generation
    )
    able = [who for who, role in ROLES.items() if may(name, role)]
    everyone = itertools.cycle(ROLES)
    for case in cases:  # some ten to a hundred: each as one who may, and as the next of all
        send(name, case, site, session, {able[0], next(everyone)})


# What stands in JSON for something else: of another type, though Python could turn some into the right one.
FOREIGN = ["null", "true", "1", "1.5", "1e400", "NaN", '"1"', '"1_000"', '""', "[]", "{}", "[[1]]"]
JSON = {"Content-Type": "application/json"}
NO_JSON = [
    b"",
    b"{",
    b"[]",
    b"null",
    b"\xff\xfe{}",
    b'{"name": "x"',
    b"[" * 60_000,
    b'{"a":' * 10_000,
    b"1" * 60_000,
    b'{"name": "\xff"}',
]


def allows(schema: dict[str, Any], value: Any, components: dict[str, Any]) -> bool:
    """Whether a member's description has room for ``value``, by its JSON type alone."""
    if "$ref" in schema:
        return allows(components[schema["$ref"].rpartition("/")[2]], value, components)
    if "anyOf" in schema:
        return any(allows(one, value, components) for one in schema["anyOf"])
    types: dict[str, Any] = {"string": str, "integer": int, "object": dict, "array": list, "null": type(None)}
    return type(value) is types[schema["type"]]


@pytest.mark.parametrize("name", sorted(BODIES))
@pytest.mark.threat(19)
def test_a_value_of_another_json_type_is_refused(name: str, site: Site, session: requests.Session) -> None:
    """For every member of every body: ``true`` is no amount, and ``"1"`` no number."""
    method, path = name.split()
    described = site.openapi["paths"][path][method.lower()]["requestBody"]["content"]["application/json"]
    components = site.openapi["components"]["schemas"]
    members = components[described["schema"]["$ref"].rpartition("/")[2]]["properties"]
    url = site.url + re.sub(r"\{(\w+)\}", lambda found: site.ids[found[1]][0], path)
    headers = site.tokens["enrolment" if TABLE[name] == ENROLMENT else "admin"]
    tried = 0
    for member in members:
        for text in FOREIGN:
            value = json.loads(text) if text != "1e400" else float("inf")
            if allows(members[member], value, components):
                continue
            rest = {key: sound for key, sound in BODIES[name].items() if key != member}
            body = json.dumps(rest)[:-1] + (", " if rest else "") + f'"{member}": {text}}}'
            answer = session.request(method, url, data=body, headers=headers | JSON)
            assert answer.status_code == 422, (member, text, answer.text)
            assert answer.headers["content-type"] == "application/problem+json"
            tried += 1
    assert tried >= 7


@pytest.mark.parametrize("name", sorted(BODIES))
@pytest.mark.threat(19)
def test_a_body_that_is_no_json_object_is_refused(name: str, site: Site, session: requests.Session) -> None:
    """Whoever sends it; no depth and no length of it brings the backend down."""
    method, path = name.split()
    url = site.url + re.sub(r"\{(\w+)\}", lambda found: site.ids[found[1]][0], path)
    for body in NO_JSON:
        for who in ("admin", "enrolment", "nobody"):
            headers = site.tokens[who] | JSON
            answer = session.request(method, url, data=body, headers=headers)
            assert answer.status_code in REFUSED | UNREADABLE, (body[:20], who, answer.text)
            assert answer.headers["content-type"] == "application/problem+json"


NUMBERS = [
    ("GET /v1/owners", "limit"),
    ("GET /v1/devices", "limit"),
    ("GET /v1/alarms", "before"),
    ("GET /v1/transfers", "before"),
    ("GET /v1/gateways/self/devices", "after_revision"),
    ("GET /v1/gateways/self/commands", "after_id"),
    ("GET /v1/devices/{device_id}/gaps", "before_boot"),
    ("GET /v1/devices/{device_id}/telemetry", "limit"),
    ("GET /v1/log/head", "tree_size"),
    ("GET /v1/log/consistency", "from"),
]
NO_NUMBERS = ["", " 1", "1 ", "+1", "1_0", "1.0", "1e1", "0x1", "٣", "1" * 5000, "true", "null", "--1", "1;2"]


@pytest.mark.parametrize(("name", "member"), NUMBERS)
def test_a_number_in_a_query_is_plain_digits(
    name: str, member: str, site: Site, session: requests.Session
) -> None:
    method, path = name.split()
    url = site.url + re.sub(r"\{(\w+)\}", lambda found: site.ids[found[1]][0], path)
    headers = site.tokens["gateway" if "self" in path else "admin"]
    assert session.request(method, url, params={member: "1"}, headers=headers).status_code == 200
    for text in NO_NUMBERS:
        answer = session.request(method, url, params={member: text}, headers=headers)
        assert answer.status_code == 422, (text, answer.text)
