"""A small HTTP client for stores: bounded answers, every failure mapped to the port's errors.

Place in the flow: under the InfluxDB stores' reads, and InfluxDB 1.x writes.

Does not: retry, follow redirects, or use a proxy from the environment: credentials go to the configured
server only.

Rules it keeps: every request has a time-out; an answer past ANSWER_LEN_MAX is refused, not read.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final

import httpx

from surge_backend.telemetry.http_errors import Redactor, failure_of
from surge_backend.telemetry.store import StoreQueryFailed, StoreUnavailable

# An answer of QUERY_LIMIT_MAX samples is about 1 MiB; a server that sends more than this is asked for less.
ANSWER_LEN_MAX: Final = 64 * 1024 * 1024
LINE_LEN_MAX: Final = 8 * 1024 * 1024
# How much of a failure's body is read.
_FAILURE_LEN_MAX: Final = 64 * 1024
_CONNECTIONS_MAX: Final = 4


class StoreHttpClient:
    """Requests to one server at ``url``. ``headers`` carry the credentials; ``redactor`` knows them."""

    def __init__(
        self, url: str, *, headers: Mapping[str, str], timeout_s: float, redactor: Redactor, ca_file: str = ""
    ) -> None:
        self._url = url.rstrip("/")
        self._redactor = redactor
        self._client = httpx.AsyncClient(
            headers=dict(headers),
            timeout=timeout_s,
            limits=httpx.Limits(max_connections=_CONNECTIONS_MAX),
            follow_redirects=False,
            trust_env=False,
            verify=ssl.create_default_context(cafile=ca_file) if ca_file else True,
        )

    async def close(self) -> None:
        await self._client.aclose()

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        data: Mapping[str, str] | None = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        """The answer's body. Raises StoreUnavailable, RequestRefused or StoreQueryFailed."""
        chunks: list[bytes] = []
        async with self._answer(
            method, path, params=params, data=data, content=content, headers=headers
        ) as answer:
            async for chunk in self._bounded(answer, path):
                chunks.append(chunk)
        return b"".join(chunks)

    async def lines(self, path: str, *, data: Mapping[str, str]) -> AsyncIterator[bytes]:
        """The answer's lines, as they come; any number, each of LINE_LEN_MAX at most. Errors as in
        `request`."""
        rest = b""
        async with self._answer("POST", path, params=None, data=data, content=None, headers=None) as answer:
            async for chunk in answer.aiter_bytes():
                *whole, rest = (rest + chunk).split(b"\n")
                for line in whole:
                    yield line
                if len(rest) > LINE_LEN_MAX:
                    raise StoreQueryFailed(
                        f"{self._url}{path} answered a line of more than {LINE_LEN_MAX} bytes"
                    )
        if rest:
            yield rest

    async def _bounded(self, answer: httpx.Response, path: str) -> AsyncIterator[bytes]:
        length = 0
        async for chunk in answer.aiter_bytes():
            length += len(chunk)
            if length > ANSWER_LEN_MAX:
                raise StoreQueryFailed(
                    f"{self._url}{path} answered more than {ANSWER_LEN_MAX} bytes; ask for a shorter range"
                )
            yield chunk

    @asynccontextmanager
    async def _answer(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None,
        data: Mapping[str, str] | None,
        content: bytes | None,
        headers: Mapping[str, str] | None,
    ) -> AsyncIterator[httpx.Response]:
        where = f"telemetry store {self._url}{path}"
        try:
            async with self._client.stream(
                method, self._url + path, params=params, data=data, content=content, headers=headers
            ) as answer:
                if not answer.is_success:
                    body = b""
                    async for chunk in answer.aiter_bytes():
                        body += chunk
                        if len(body) > _FAILURE_LEN_MAX:
                            break
                    retry_after = answer.headers.get("Retry-After")
                    text = body.decode(errors="replace")
                    raise failure_of(answer.status_code, text, retry_after, where, self._redactor)
                yield answer
        except httpx.TimeoutException as error:
            raise StoreUnavailable(
                f"{where} gave no answer in time ({type(error).__name__})",
                "check the network and the server's load; writing goes on by itself",
            ) from error
        except (httpx.TransportError, httpx.DecodingError) as error:
            raise StoreUnavailable(
                f"{where} can't be reached: {self._redactor.clean(str(error)) or type(error).__name__}",
                "check that the server runs at this address; writing goes on by itself",
            ) from error
