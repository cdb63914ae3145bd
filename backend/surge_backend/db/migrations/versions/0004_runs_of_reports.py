"""No row for each accepted report any more: a device's row says which it has, runs say where they stand.

A database that has reports is refused and stays as it is: no released version wrote one.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

from surge_backend.errors import DatabaseNotReady

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Put the new tables in the place of the old."""
    if op.get_bind().exec_driver_sql("SELECT 1 FROM reports LIMIT 1").first() is not None:
        raise DatabaseNotReady(
            "the database holds reports in the form of a development version, which this one doesn't read;"
            " begin with a new one: `surge backend init` in another folder"
        )
    for table in ("reports", "usage_claims", "device_boots", "device_totals"):
        op.drop_table(table)
    op.create_table(
        "batch_digests",
        sa.Column("log_index", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("digests", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("log_index", name=op.f("pk_batch_digests")),
    )
    op.create_table(
        "accepted_runs",
        sa.Column("device_id", sa.String(length=17), nullable=False),
        sa.Column("boot", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("seq_min", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("seq_max", sa.BigInteger(), nullable=False),
        sa.Column("log_index", sa.BigInteger(), nullable=False),
        sa.Column("places", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("device_id", "boot", "seq_min", name=op.f("pk_accepted_runs")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "device_totals",
        sa.Column("device_id", sa.String(length=17), nullable=False),
        sa.Column("reports", sa.BigInteger(), nullable=False),
        sa.Column("samples", sa.BigInteger(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("microcredits", sa.BigInteger(), nullable=False),
        sa.Column("carry", sa.BigInteger(), nullable=False),
        sa.Column("last_report_ms", sa.BigInteger(), nullable=False),
        sa.Column("command_counter", sa.BigInteger(), nullable=True),
        sa.Column("boot_max", sa.BigInteger(), nullable=False),
        *_boot_columns("boot_"),
        sa.PrimaryKeyConstraint("device_id", name=op.f("pk_device_totals")),
    )
    op.create_table(
        "device_boots",
        sa.Column("device_id", sa.String(length=17), nullable=False),
        sa.Column("boot", sa.BigInteger(), autoincrement=False, nullable=False),
        *_boot_columns(""),
        sa.PrimaryKeyConstraint("device_id", "boot", name=op.f("pk_device_boots")),
        sqlite_with_rowid=False,
    )


def _boot_columns(prefix: str) -> tuple[sa.Column[Any], ...]:
    return (
        sa.Column("seq_max", sa.BigInteger(), nullable=False),
        sa.Column("previous_end", sa.BigInteger(), nullable=True),
        sa.Column("first_seen_ms", sa.BigInteger(), nullable=False),
        sa.Column("last_seen_ms", sa.BigInteger(), nullable=False),
        sa.Column(prefix + "reports", sa.BigInteger(), nullable=False),
        sa.Column(prefix + "samples", sa.BigInteger(), nullable=False),
        sa.Column(prefix + "bytes", sa.BigInteger(), nullable=False),
        sa.Column("gaps_from", sa.BigInteger(), nullable=False),
        sa.Column("gaps", sa.LargeBinary(), nullable=True),
        sa.Column("recent", sa.LargeBinary(), nullable=False),
        sa.Column("claim_seq", sa.BigInteger(), nullable=True),
        sa.Column("claim", sa.Text(), nullable=True),
    )
