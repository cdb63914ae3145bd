"""The series that each device has in the telemetry store, so that their number can be bounded."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "telemetry_series",
        sa.Column("device_id", sa.String(length=17), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("unit", sa.String(length=16), nullable=False),
        sa.Column("log_index", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("device_id", "name", "unit", name=op.f("pk_telemetry_series")),
        sqlite_with_rowid=False,
    )
