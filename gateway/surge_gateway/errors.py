"""What goes wrong inside a gateway, by whose business it is.

Place in the flow: raised by the core modules, turned into back-pressure, retries or an exit by the async
shell. `surge_host.errors.UserError` is what a person sees; these are what the parts tell one another.
"""


class GatewayError(Exception):
    """Base of all errors of this package."""


class ChainError(GatewayError):
    """Our batch chain and the backend's don't fit together: going on would give one seq two contents."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(f"{what}; {remedy}")
        self.what = what
        self.remedy = remedy


class IdentityError(GatewayError):
    """The gateway's own key, id or token is missing or unreadable."""

    def __init__(self, what: str, where: str, remedy: str) -> None:
        super().__init__(f"{what} ({where}); {remedy}")
        self.what = what
        self.where = where
        self.remedy = remedy
