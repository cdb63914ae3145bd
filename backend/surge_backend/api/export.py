"""Exports over HTTP: the whole of it for auditors, the public part of the log for everyone.

Place in the flow: `audit.exporting` reads the database part by part; `surge export` and `surge verify` ask
here.

Rules kept: each part is read in a worker thread, in a transaction that ends before the part is sent, so
neither the event loop nor a writer waits for a slow reader; at most EXPORTS_MAX whole exports run at once;
the public part comes in pages of about PART_LEN bytes, each of which costs its client a request.
"""

from collections.abc import AsyncIterator, Callable, Generator
from threading import BoundedSemaphore
from typing import Annotated

import anyio.to_thread
from fastapi import Query, Response
from fastapi.responses import StreamingResponse
from sqlalchemy import func, select
from starlette.types import Receive, Scope, Send

from surge_backend.api import problems
from surge_backend.api.fields import binary_response
from surge_backend.api.guard import PUBLIC, bearer
from surge_backend.api.problems import Problem, retry_later
from surge_backend.api.routes import Routes
from surge_backend.api.services import Services, ServicesDep
from surge_backend.audit import items
from surge_backend.audit.exporting import Source, export_parts
from surge_backend.db.schema import log_heads
from surge_backend.registry.tokens import Role
from surge_backend.verify.limits import DEFAULT_LIMITS
from surge_wire.limits import TREE_SIZE_MAX

CBOR_SEQUENCE = "application/cbor-seq"
EXPORTS_MAX = 2  # whole ones at once; one more gets 503 with Retry-After

First = Annotated[
    int, Query(alias="from", ge=0, le=TREE_SIZE_MAX, description="the first entry; at most the log's size")
]


class _Stream(StreamingResponse):
    """A stream that says when it is over, also where it never began."""

    def __init__(self, parts: Generator[bytes, None, None], over: Callable[[], None]) -> None:
        super().__init__(_in_threads(parts), media_type=CBOR_SEQUENCE)
        self._parts = parts
        self._over = over

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._parts.close()
            self._over()


async def _in_threads(parts: Generator[bytes, None, None]) -> AsyncIterator[bytes]:
    while True:
        part = await anyio.to_thread.run_sync(next, parts, None)
        if part is None:
            return
        if part:
            yield part


def make_routes() -> Routes:
    """The routes, with the count of exports that run."""
    routes = Routes("log")
    running = BoundedSemaphore(EXPORTS_MAX)

    @routes.get(
        "/v1/export",
        access=bearer(Role.ADMIN, Role.AUDITOR),
        problems=(problems.NOT_FOUND, problems.EXPORTS_RUNNING, problems.STORE_BUSY),
        response_class=Response,
        responses={200: binary_response("A sequence of items (spec/export.md)", CBOR_SEQUENCE)},
        summary="Everything that was decided, to be computed again",
    )
    def get_export(services: ServicesDep, first: First = 0) -> Response:
        """Streamed, from entry `from` on, as of one moment. `surge verify` checks it; so can anyone else."""
        _check_first(services, first)
        if not running.acquire(blocking=False):
            raise retry_later(
                problems.EXPORTS_RUNNING, f"{EXPORTS_MAX} exports are running", services.retry_after_s
            )
        return _Stream(export_parts(_source(services), items.FULL, first), running.release)

    @routes.get(
        "/v1/log/export",
        access=PUBLIC,
        problems=(problems.NOT_FOUND, problems.STORE_BUSY),
        response_class=Response,
        responses={200: binary_response("A sequence of items (spec/export.md)", CBOR_SEQUENCE)},
        summary="Many entries of the log with their heads and receipts",
    )
    def get_log_export(services: ServicesDep, first: First = 0) -> Response:
        """A page from entry `from` on; its last item says where the next begins."""
        _check_first(services, first)
        parts = export_parts(_source(services), items.PUBLIC, first, whole=False)
        return Response(b"".join(parts), media_type=CBOR_SEQUENCE)

    return routes


def _source(services: Services) -> Source:
    # the limits are those that `app` leaves ingest with
    return Source(services.database, services.log.public_key, services.now_ms, DEFAULT_LIMITS)


def _check_first(services: Services, first: int) -> None:
    with services.database.read() as connection:
        size = connection.execute(select(func.max(log_heads.c.tree_size))).scalar() or 0
    if first > size:
        raise Problem(problems.NOT_FOUND, f"the log has {size} entries")
