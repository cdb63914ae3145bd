"""What the registry refuses, and why: the API turns each into its problem.

Place in the flow: raised by the registry's functions inside a transaction, which is rolled back. Knows no
HTTP.
"""

from surge_backend.errors import BackendError


class RegistryError(BackendError):
    """Base of all of them; the text is for the person who asked and holds nothing secret."""


class UnknownSubject(RegistryError):
    """No such owner, device, gateway, token or enrolment; or one that who asks may not see."""


class EnrolmentRefused(RegistryError):
    """The enrolment token is unknown, expired or for another kind of thing: they look the same."""


class EnrolmentUsed(RegistryError):
    """The enrolment token was used with another key; the enrolled key stays (threat 2)."""


class WrongState(RegistryError):
    """What was asked doesn't fit the subject's status."""


class LimitReached(RegistryError):
    """A named limit is reached; the text names it."""
