"""A replaced token is taken up without a restart; a refused one is not sent again and again."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from gateway_backend import BackendState
from gateway_http import GATEWAY_ID, TOKEN, TestBackend, running_backend

from surge_gateway.backend_client import BackendClient, Refusal
from surge_gateway.clock import SystemClock
from surge_gateway.files import RealFiles
from surge_gateway.http_client import make_http
from surge_gateway.identity import TOKEN_NAME, read_newest_token
from surge_gateway.settings import BackendSettings
from surge_gateway.token_auth import ReplacedToken

REVOKED = "a-token-that-was-revoked"


@pytest.fixture
def backend() -> Iterator[TestBackend]:
    with running_backend() as backend:
        backend.state = BackendState(GATEWAY_ID, b"k" * 32, backend.log)
        yield backend


@pytest.mark.threat(25)
async def test_a_token_put_into_the_file_is_used_from_then_on(backend: TestBackend, tmp_path: Path) -> None:
    asked = []

    def newest() -> str | None:
        asked.append(tmp_path)
        return read_newest_token(RealFiles(), tmp_path)

    async with make_http(BackendSettings(url=backend.url)) as http:
        http.auth = ReplacedToken(newest)
        client = BackendClient(http, backend.url, REVOKED, SystemClock())
        with pytest.raises(Refusal, match="401"):
            await client.commands(0)  # there is no file
        (tmp_path / TOKEN_NAME).write_text(REVOKED + "\n")
        with pytest.raises(Refusal, match="401"):
            await client.commands(0)  # the same token: not sent again
        (tmp_path / TOKEN_NAME).write_text(TOKEN + "\n")
        assert await client.commands(0) == []
        assert await client.commands(0) == []
    assert len(asked) == 3  # the fourth request had the right one at once


async def test_a_request_without_a_token_gets_none() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        assert "Authorization" not in request.headers
        return httpx.Response(401)

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
        http.auth = ReplacedToken(lambda: TOKEN)
        assert (await http.get("http://127.0.0.1/")).status_code == 401
