"""Which rows a principal sees: the one place that turns a token into a filter.

Place in the flow: resource modules pass the result to the registry's and the database's queries.
"""

from surge_backend.registry.tokens import Principal, Role


def owner_scope(principal: Principal) -> str | None:
    """The owner whose things `principal` may see, None for everyone's (admin, auditor)."""
    if principal.role in (Role.ADMIN, Role.AUDITOR):
        return None
    if principal.role is Role.OWNER and principal.subject_id:
        return principal.subject_id
    raise TypeError(f"a {principal.role.value} has no view on owners' things")
