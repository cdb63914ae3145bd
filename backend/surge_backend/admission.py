"""`surge backend owner` and `enrolment`: letting people, gateways and devices in, from the backend's machine.

Place in the flow: called by `cli`, while the backend runs or not; the API does the same for who is elsewhere.
Does not enrol: who holds the enrolment token does.

Rules kept: tokens go into new files of mode 0600, made before the commit, and are never printed.
"""

import datetime
from pathlib import Path

from sqlalchemy import Connection

from surge_backend.errors import BackendError
from surge_backend.keys import create_private_file
from surge_backend.opening import as_user_error, opened_database, shown_url
from surge_backend.registry.enrolments import ENROLMENT_LIFE_S_MAX, create_enrolment
from surge_backend.registry.errors import RegistryError
from surge_backend.registry.owners import NAME_LEN_MAX, create_owner, list_owners, require_owner
from surge_backend.registry.token_rows import issue_token
from surge_backend.registry.tokens import Role
from surge_backend.settings import Settings
from surge_backend.upkeep import wall_clock_ms
from surge_host.errors import UserError

ENROLMENT_HOURS_MAX = ENROLMENT_LIFE_S_MAX // 3600

_OWNERS_NAMED_MAX = 5  # in an error; the rest is counted on by `...`


def make_owner(settings: Settings, *, name: str, out: Path) -> int:
    """Make an owner and write its token to the new file `out`. Raises UserError."""
    _check_name(name)
    with opened_database(settings) as database:
        try:
            with database.write() as connection:
                time_ms = wall_clock_ms()
                owner_id = create_owner(connection, name, time_ms)
                issued = issue_token(connection, Role.OWNER, owner_id, "first", time_ms)
                create_private_file(out, issued.token.encode() + b"\n")
        except BackendError as error:
            raise as_user_error(error, shown_url(database)) from error
    print(f"Owner {owner_id} ({name}); the owner's token is in {out}")  # noqa: T201
    return 0


def make_enrolment_file(
    settings: Settings, *, kind: str, owner_id: str | None, name: str | None, expires_in_hours: int, out: Path
) -> int:
    """Write a token that enrols one gateway or device to the new file `out`. Raises UserError.

    Without `owner_id` it is for the only owner there is; without `name`, for a thing named after its kind.
    """
    if name is not None:
        _check_name(name)
    if not 1 <= expires_in_hours <= ENROLMENT_HOURS_MAX:
        raise UserError(
            f"{expires_in_hours} is no number of hours",
            "--expires-in-hours",
            f"give 1 to {ENROLMENT_HOURS_MAX}",
        )
    with opened_database(settings) as database:
        try:
            with database.write() as connection:
                if owner_id is None:
                    owner_id = _only_owner(connection)
                require_owner(connection, owner_id)
                enrolment = create_enrolment(
                    connection,
                    kind=kind,
                    owner_id=owner_id,
                    gateway_id=None,
                    name=name or kind,
                    now_ms=wall_clock_ms(),
                    life_s=expires_in_hours * 3600,
                )
                create_private_file(out, enrolment.token.encode() + b"\n")
        except RegistryError as error:
            raise UserError(str(error), "--owner", "give an owner's id, as `owner` printed it") from error
        except BackendError as error:
            raise as_user_error(error, shown_url(database)) from error
    until = datetime.datetime.fromtimestamp(enrolment.expires_ms / 1000, datetime.UTC)
    print(  # noqa: T201
        f"A token that enrols one {kind} for {owner_id} is in {out}; good until {until:%Y-%m-%d %H:%M} UTC"
    )
    return 0


def _only_owner(connection: Connection) -> str:
    """The id of the owner, where there is one alone."""
    found = list_owners(connection, "", _OWNERS_NAMED_MAX + 1)
    if not found:
        raise UserError(
            "there is no owner yet", "--owner", "make one first: surge backend owner --name NAME --out FILE"
        )
    if len(found) > 1:
        named = ", ".join(f"{row['id']} ({row['name']})" for row in found[:_OWNERS_NAMED_MAX])
        more = ", ..." if len(found) > _OWNERS_NAMED_MAX else ""
        raise UserError("there is more than one owner", "--owner", f"give one of {named}{more}")
    return str(found[0]["id"])


def _check_name(name: str) -> None:
    if not 0 < len(name) <= NAME_LEN_MAX or not name.isprintable():
        raise UserError(
            f"{name!r} is no name", "--name", f"give 1 to {NAME_LEN_MAX} characters, none of them invisible"
        )
