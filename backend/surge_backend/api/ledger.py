"""The ledger over HTTP: accounts, transfers, tariffs. Everything in integer micro-credits.

Place in the flow: reads what `ledger` posted; an admin adds the next tariff here. Nobody moves money through
this.
"""

from typing import Annotated, Literal

from fastapi import Path, Query
from pydantic import Field
from sqlalchemy import ColumnElement, RowMapping, func, select

from surge_backend.api import problems
from surge_backend.api.fields import PAGE_DEFAULT, Model, Number, OwnerId, PageLimit, RequestModel, TimeMs
from surge_backend.api.guard import PUBLIC, CurrentPrincipal, bearer
from surge_backend.api.problems import Problem
from surge_backend.api.routes import Routes
from surge_backend.api.scopes import owner_scope
from surge_backend.api.services import ServicesDep
from surge_backend.db.schema import accounts, entries, holds, transfers
from surge_backend.errors import LedgerRefused
from surge_backend.ledger.posting import ACCOUNT_ID_LEN_MAX
from surge_backend.ledger.pricing import BASIS_POINTS, PRICE_MAX, Tariff
from surge_backend.ledger.tariffs import add_tariff, all_tariffs
from surge_backend.registry.tokens import Role
from surge_wire.limits import UINT53_MAX

routes = Routes("ledger")

_READERS = bearer(Role.ADMIN, Role.OWNER, Role.AUDITOR)
TRANSFERS_LISTED_MAX = 100  # each may have as many legs as a batch has accounts
AccountId = Annotated[str, Field(max_length=ACCOUNT_ID_LEN_MAX, examples=["owner:oaaaaaaaaaaaaaaaa"])]


class Account(Model):
    """An account. What is `held` is part of the balance and can't be paid out."""

    account_id: AccountId
    kind: Literal["owner", "issuance"]
    owner_id: OwnerId | None
    balance_microcredits: int
    held_microcredits: int


class Leg(Model):
    """One account's part of a transfer."""

    account: AccountId
    microcredits: int


class Transfer(Model):
    """A transfer: its legs sum to zero. `before` of the next page is the last one's `ordinal`."""

    transfer_id: Annotated[str, Field(description="SHA-256 of what it is for, hexadecimal")]
    ordinal: int
    kind: str
    reference: Annotated[str, Field(description="of a batch: its hash, hexadecimal")]
    log_index: int | None
    created_ms: TimeMs
    legs: list[Leg]


class TariffModel(Model):
    """Prices, in force from `valid_from_ms` on until a later version is."""

    version: int
    valid_from_ms: TimeMs
    sample_microcredits: int
    kib_microcredits: int
    gateway_share_bp: Annotated[int, Field(description="the gateway operator's part, in 1/10,000")]


class NewTariff(RequestModel):
    """The next version. `valid_from_ms` absent: from now on."""

    valid_from_ms: TimeMs | None = None
    sample_microcredits: Annotated[int, Field(ge=0, le=PRICE_MAX)]
    kib_microcredits: Annotated[int, Field(ge=0, le=PRICE_MAX)]
    gateway_share_bp: Annotated[int, Field(ge=0, le=BASIS_POINTS)]


def _visible_accounts(owner_id: str | None) -> ColumnElement[bool]:
    return accounts.c.id.is_not(None) if owner_id is None else accounts.c.owner_id == owner_id


_HELD = (
    select(func.coalesce(func.sum(holds.c.amount), 0))
    .where(holds.c.account_id == accounts.c.id, holds.c.released_ms.is_(None))
    .scalar_subquery()
    .label("held")
)


def _account(row: RowMapping) -> Account:
    return Account(
        account_id=row["id"],
        kind=row["kind"],
        owner_id=row["owner_id"],
        balance_microcredits=row["balance"],
        held_microcredits=row["held"],
    )


@routes.get("/v1/accounts", access=_READERS, summary="List accounts")
def get_accounts(
    principal: CurrentPrincipal,
    services: ServicesDep,
    after_id: Annotated[str, Query(max_length=ACCOUNT_ID_LEN_MAX)] = "",
    limit: PageLimit = PAGE_DEFAULT,
) -> list[Account]:
    """In the order of their ids; an owner sees its own."""
    query = (
        select(accounts, _HELD)
        .where(_visible_accounts(owner_scope(principal)), accounts.c.id > after_id)
        .order_by(accounts.c.id)
        .limit(limit)
    )
    with services.database.read() as connection:
        return [_account(row) for row in connection.execute(query).mappings()]


@routes.get(
    "/v1/accounts/{account_id}", access=_READERS, problems=(problems.NOT_FOUND,), summary="One account"
)
def get_account(
    account_id: Annotated[str, Path(max_length=ACCOUNT_ID_LEN_MAX)],
    principal: CurrentPrincipal,
    services: ServicesDep,
) -> Account:
    """Its balance, and how much of it is held."""
    query = select(accounts, _HELD).where(
        accounts.c.id == account_id, _visible_accounts(owner_scope(principal))
    )
    with services.database.read() as connection:
        row = connection.execute(query).mappings().one_or_none()
    if row is None:
        raise Problem(problems.NOT_FOUND, f"no account {account_id}")
    return _account(row)


@routes.get("/v1/transfers", access=_READERS, summary="List transfers")
def get_transfers(
    principal: CurrentPrincipal,
    services: ServicesDep,
    account: Annotated[str | None, Query(max_length=ACCOUNT_ID_LEN_MAX)] = None,
    before: Annotated[
        Number, Query(ge=1, le=UINT53_MAX, description="the ordinal to go on from")
    ] = UINT53_MAX,
    limit: Annotated[Number, Query(ge=1, le=TRANSFERS_LISTED_MAX)] = TRANSFERS_LISTED_MAX,
) -> list[Transfer]:
    """Newest first, with all their legs; an owner sees those that touch its own accounts."""
    owner_id = owner_scope(principal)
    query = select(transfers).where(transfers.c.ordinal < before)
    if account is not None or owner_id is not None:
        touching = select(entries.c.ordinal).where(entries.c.ordinal < before)
        if account is not None:
            touching = touching.where(entries.c.account_id == account)
        if owner_id is not None:
            own = select(accounts.c.id).where(accounts.c.owner_id == owner_id)
            touching = touching.where(entries.c.account_id.in_(own))
        touching = touching.distinct().order_by(entries.c.ordinal.desc()).limit(limit)
        query = query.where(transfers.c.ordinal.in_(touching.scalar_subquery()))
    with services.database.read() as connection:
        heads = connection.execute(query.order_by(transfers.c.ordinal.desc()).limit(limit)).mappings().all()
        legs: dict[bytes, list[Leg]] = {head["id"]: [] for head in heads}
        lines = connection.execute(
            select(entries.c.transfer_id, entries.c.account_id, entries.c.amount)
            .where(entries.c.transfer_id.in_(list(legs)))
            .order_by(entries.c.transfer_id, entries.c.position)
        )
        for line in lines:
            legs[line.transfer_id].append(Leg(account=line.account_id, microcredits=line.amount))
    return [
        Transfer(
            transfer_id=head["id"].hex(),
            ordinal=head["ordinal"],
            kind=head["kind"],
            reference=head["reference"].hex(),
            log_index=head["log_index"],
            created_ms=head["created_ms"],
            legs=legs[head["id"]],
        )
        for head in heads
    ]


def _tariff(tariff: Tariff) -> TariffModel:
    return TariffModel(
        version=tariff.version,
        valid_from_ms=tariff.valid_from_ms,
        sample_microcredits=tariff.sample_microcredits,
        kib_microcredits=tariff.kib_microcredits,
        gateway_share_bp=tariff.gateway_share_bp,
    )


@routes.get("/v1/tariffs", access=PUBLIC, summary="Every tariff")
def get_tariffs(services: ServicesDep) -> list[TariffModel]:
    """The newest version first. A tariff is never edited; a settlement names the version that it used."""
    with services.database.read() as connection:
        return [_tariff(tariff) for tariff in all_tariffs(connection)]


@routes.post(
    "/v1/tariffs",
    access=bearer(Role.ADMIN),
    status_code=201,
    problems=(problems.CONFLICT,),
    summary="Add the next tariff",
)
def post_tariff(body: NewTariff, services: ServicesDep) -> TariffModel:
    """In force from `valid_from_ms`, by the backend's clock; never in the past."""
    with services.database.write() as connection:
        now_ms = services.now_ms()
        version = max((known.version for known in all_tariffs(connection)), default=0) + 1
        try:
            tariff = Tariff(
                version=version,
                valid_from_ms=now_ms if body.valid_from_ms is None else body.valid_from_ms,
                sample_microcredits=body.sample_microcredits,
                kib_microcredits=body.kib_microcredits,
                gateway_share_bp=body.gateway_share_bp,
            )
            add_tariff(connection, tariff, now_ms)
        except LedgerRefused as error:
            raise Problem(problems.CONFLICT, str(error)) from None
    return _tariff(tariff)
