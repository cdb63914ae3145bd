"""What the demo does over the backend's API, as an owner and an operator would.

Place in the flow: under ``demo.network``; asks the running backend over HTTP, nothing else. Rules kept:
tokens stay in this process and in files of the demo's own directory; an answer that isn't as expected is an
error that shows it.
"""

from collections.abc import Mapping
from typing import Any

import httpx

from surge_cli.provisioning import problem_text
from surge_host.errors import UserError

TIMEOUT_S = 20


class OwnerClient:
    """Calls with one bearer token."""

    def __init__(self, base_url: str, token: str | None = None) -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._http = httpx.AsyncClient(base_url=base_url, headers=headers, timeout=TIMEOUT_S)
        self._base_url = base_url

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def get(self, path: str, **query: Any) -> Any:
        """The JSON at ``path``."""
        return self._checked(await self._send("GET", path, params=query))

    async def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """The JSON that ``path`` answers ``body`` with."""
        return self._checked(await self._send("POST", path, json=dict(body)))

    async def _send(self, method: str, path: str, **more: Any) -> httpx.Response:
        try:
            return await self._http.request(method, path, **more)
        except httpx.HTTPError as error:
            raise UserError("the backend doesn't answer", self._base_url + path, str(error)) from error

    def _checked(self, answer: httpx.Response) -> Any:
        if not answer.is_success:
            raise UserError("the backend refused", str(answer.request.url), problem_text(answer))
        return answer.json() if answer.content else None
