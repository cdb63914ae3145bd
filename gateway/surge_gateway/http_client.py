"""The HTTP client that the gateway uses towards its backend.

Place in the flow: made by `app` and `cli`, used by `BackendClient`. Rules kept: certificates are checked;
no redirect is followed, for it would carry the token elsewhere; no proxy or password from the environment
is picked up; a token goes over plain HTTP to this machine only, unless the settings say otherwise.
"""

import ssl
from ipaddress import ip_address
from urllib.parse import urlsplit

import httpx

from surge_gateway.settings import BackendSettings
from surge_host.errors import UserError

CONNECTIONS_MAX = 4  # batches, registry, commands and log each have one request under way at most


def make_http(settings: BackendSettings) -> httpx.AsyncClient:
    """A client with the settings' time-out and trust. Raises UserError."""
    if settings.url.startswith("http://") and not settings.plain_http and not _is_this_machine(settings.url):
        raise UserError(
            "the gateway's token would travel in the clear",
            f"[backend] url = {settings.url}",
            "use https://, or set plain_http = true if the network in between is trusted",
        )
    try:
        trust: ssl.SSLContext | bool = True
        if settings.tls_authority is not None:
            trust = ssl.create_default_context(cafile=str(settings.tls_authority))
    except (OSError, ssl.SSLError) as error:
        raise UserError(
            f"the authority's certificate can't be read: {error}",
            f"[backend] tls_authority = {settings.tls_authority}",
            "give a PEM file",
        ) from error
    return httpx.AsyncClient(
        timeout=settings.timeout_ms / 1000,
        verify=trust,
        follow_redirects=False,
        trust_env=False,
        limits=httpx.Limits(max_connections=CONNECTIONS_MAX),
    )


def _is_this_machine(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
