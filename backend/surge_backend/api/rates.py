"""Rate limits: token buckets per client address, in memory and bounded.

Place in the flow: guards ask before they look anything up. Pure but for the buckets' own levels: the clock is
passed in. Does not share state between processes: it protects this one.

Rules kept: at most `clients_max` addresses are remembered, the one idle longest is forgotten first (it starts
again with a full bucket); an IPv6 client is its /64, since one host holds that many addresses.
"""

import ipaddress
import math
from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock

CLIENTS_MAX = 10_000


@dataclass(frozen=True)
class Rate:
    """`burst` requests at once, then `per_second` of them; at the limit: 429 with Retry-After."""

    burst: int
    per_second: float


@dataclass
class _Bucket:
    level: float
    updated_s: float


class TokenBuckets:
    """One bucket per client. Safe to call from several threads."""

    def __init__(self, rate: Rate, clients_max: int = CLIENTS_MAX) -> None:
        self.rate = rate
        self.refused = 0
        self._clients_max = clients_max
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._buckets)

    def _bucket(self, client: str, now_s: float) -> _Bucket:
        """The client's bucket, filled up to now and marked as used last."""
        bucket = self._buckets.get(client)
        if bucket is None:
            if len(self._buckets) >= self._clients_max:
                self._buckets.popitem(last=False)
            bucket = self._buckets[client] = _Bucket(float(self.rate.burst), now_s)
        else:
            self._buckets.move_to_end(client)
            gained = max(0.0, now_s - bucket.updated_s) * self.rate.per_second
            bucket.level = min(float(self.rate.burst), bucket.level + gained)
            bucket.updated_s = now_s
        return bucket

    def take(self, client: str, now_s: float) -> int:
        """Take one token: 0 if there was one, else the whole seconds until there is one again."""
        with self._lock:
            bucket = self._bucket(client, now_s)
            if bucket.level >= 1.0:
                bucket.level -= 1.0
                return 0
            self.refused += 1
            return self._wait_s(bucket)

    def wait_s(self, client: str, now_s: float) -> int:
        """Whole seconds until `client` has a token; 0 if it has one. Takes nothing."""
        with self._lock:
            bucket = self._bucket(client, now_s)
            if bucket.level >= 1.0:
                return 0
            self.refused += 1
            return self._wait_s(bucket)

    def _wait_s(self, bucket: _Bucket) -> int:
        return max(1, math.ceil((1.0 - bucket.level) / self.rate.per_second))


def client_key(host: str) -> str:
    """What stands for a client: its IPv4 address, its IPv6 /64, or the text itself."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host[:64]
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)
