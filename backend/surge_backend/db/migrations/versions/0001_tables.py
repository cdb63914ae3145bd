"""The first tables.

What each holds is said in ``db/schema.py``. A migration states its tables in full, so that it stays what it
was.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make every table."""
    op.create_table(
        "alarms",
        sa.Column(
            "id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("time_ms", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alarms")),
    )
    op.create_index(op.f("ix_alarms_subject_id"), "alarms", ["subject", "id"], unique=False)
    op.create_table(
        "device_boots",
        sa.Column("device_id", sa.String(length=17), nullable=False),
        sa.Column("boot", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("seq_max", sa.BigInteger(), nullable=False),
        sa.Column("previous_end", sa.BigInteger(), nullable=True),
        sa.Column("first_seen_ms", sa.BigInteger(), nullable=False),
        sa.Column("last_seen_ms", sa.BigInteger(), nullable=False),
        sa.Column("reports", sa.BigInteger(), nullable=False),
        sa.Column("samples", sa.BigInteger(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("device_id", "boot", name=op.f("pk_device_boots")),
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
        sa.Column("boot_max", sa.BigInteger(), nullable=False),
        sa.Column("last_report_ms", sa.BigInteger(), nullable=False),
        sa.Column("command_counter", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("device_id", name=op.f("pk_device_totals")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "log_heads",
        sa.Column("tree_size", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("root", sa.LargeBinary(), nullable=False),
        sa.Column("time_ms", sa.BigInteger(), nullable=False),
        sa.Column("envelope", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("tree_size", name=op.f("pk_log_heads")),
    )
    op.create_table(
        "log_nodes",
        sa.Column("level", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("idx", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("level", "idx", name=op.f("pk_log_nodes")),
    )
    op.create_table(
        "owners",
        sa.Column("id", sa.String(length=17), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_owners")),
    )
    op.create_table(
        "projector_state",
        sa.Column("name", sa.String(length=32), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_projector_state")),
    )
    op.create_table(
        "rejections",
        sa.Column("log_index", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("device_id", sa.String(length=17), nullable=True),
        sa.Column("boot", sa.BigInteger(), nullable=True),
        sa.Column("seq", sa.BigInteger(), nullable=True),
        sa.Column("code", sa.Integer(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("received_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("log_index", "position", name=op.f("pk_rejections")),
    )
    op.create_index(
        op.f("ix_rejections_device_id_log_index_position"),
        "rejections",
        ["device_id", "log_index", "position"],
        unique=False,
    )
    op.create_table(
        "reports",
        sa.Column("device_id", sa.String(length=17), nullable=False),
        sa.Column("boot", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("log_index", sa.BigInteger(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("samples", sa.Integer(), nullable=False),
        sa.Column("bytes", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("device_id", "boot", "seq", name=op.f("pk_reports")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "summaries",
        sa.Column("log_index", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("device_id", sa.String(length=17), nullable=False),
        sa.Column("boot", sa.BigInteger(), nullable=False),
        sa.Column("ranges", sa.LargeBinary(), nullable=False),
        sa.Column("reports", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("log_index", "position", name=op.f("pk_summaries")),
    )
    op.create_index(op.f("ix_summaries_device_id_boot"), "summaries", ["device_id", "boot"], unique=False)
    op.create_table(
        "tariffs",
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("valid_from_ms", sa.BigInteger(), nullable=False),
        sa.Column("sample_microcredits", sa.BigInteger(), nullable=False),
        sa.Column("kib_microcredits", sa.BigInteger(), nullable=False),
        sa.Column("gateway_share_bp", sa.Integer(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("gateway_share_bp BETWEEN 0 AND 10000", name=op.f("ck_tariffs_share_bound")),
        sa.CheckConstraint(
            "sample_microcredits >= 0 AND kib_microcredits >= 0", name=op.f("ck_tariffs_price_sign")
        ),
        sa.PrimaryKeyConstraint("version", name=op.f("pk_tariffs")),
    )
    op.create_table(
        "tokens",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("subject_id", sa.Text(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("expires_ms", sa.BigInteger(), nullable=True),
        sa.Column("revoked_ms", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tokens")),
        sa.UniqueConstraint("hash", name=op.f("uq_tokens_hash")),
    )
    op.create_index(op.f("ix_tokens_subject_id"), "tokens", ["subject_id"], unique=False)
    op.create_table(
        "transfers",
        sa.Column("id", sa.LargeBinary(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("reference", sa.LargeBinary(), nullable=False),
        sa.Column("content_hash", sa.LargeBinary(), nullable=False),
        sa.Column("log_index", sa.BigInteger(), nullable=True),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("ordinal", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_transfers")),
        sa.UniqueConstraint("ordinal", name=op.f("uq_transfers_ordinal")),
    )
    op.create_index(op.f("ix_transfers_log_index"), "transfers", ["log_index"], unique=False)
    op.create_table(
        "usage_claims",
        sa.Column("device_id", sa.String(length=17), nullable=False),
        sa.Column("boot", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("reports", sa.BigInteger(), nullable=False),
        sa.Column("samples", sa.BigInteger(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("dropped", sa.BigInteger(), nullable=False),
        sa.Column("fuel", sa.BigInteger(), nullable=True),
        sa.Column("energy_uj", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("device_id", "boot", "seq", name=op.f("pk_usage_claims")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "accounts",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("owner_id", sa.String(length=17), nullable=True),
        sa.Column("may_go_negative", sa.Boolean(), nullable=False),
        sa.Column("balance", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("carry", sa.BigInteger(), server_default="0", nullable=False),
        sa.CheckConstraint("balance >= 0 OR may_go_negative", name=op.f("ck_accounts_balance_sign")),
        sa.CheckConstraint(
            "balance BETWEEN -9007199254740991 AND 9007199254740991", name=op.f("ck_accounts_balance_bound")
        ),
        sa.CheckConstraint("carry >= 0", name=op.f("ck_accounts_carry_sign")),
        sa.ForeignKeyConstraint(["owner_id"], ["owners.id"], name=op.f("fk_accounts_owner_id_owners")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_accounts")),
    )
    op.create_index(op.f("ix_accounts_owner_id"), "accounts", ["owner_id"], unique=False)
    op.create_table(
        "gateways",
        sa.Column("id", sa.String(length=17), nullable=False),
        sa.Column("owner_id", sa.String(length=17), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("public_key", sa.LargeBinary(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("next_seq", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("chain_hash", sa.LargeBinary(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["owner_id"], ["owners.id"], name=op.f("fk_gateways_owner_id_owners")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_gateways")),
    )
    op.create_index(op.f("ix_gateways_owner_id"), "gateways", ["owner_id"], unique=False)
    op.create_table(
        "batches",
        sa.Column("log_index", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("gateway_id", sa.String(length=17), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("received_ms", sa.BigInteger(), nullable=False),
        sa.Column("envelope", sa.LargeBinary(), nullable=False),
        sa.Column("settlement", sa.LargeBinary(), nullable=False),
        sa.Column("answer", sa.LargeBinary(), nullable=False),
        sa.Column("window_devices", sa.LargeBinary(), nullable=True),
        sa.Column("report_count", sa.BigInteger(), nullable=False),
        sa.Column("accepted_count", sa.BigInteger(), nullable=False),
        sa.Column("sample_count", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["gateway_id"], ["gateways.id"], name=op.f("fk_batches_gateway_id_gateways")),
        sa.PrimaryKeyConstraint("log_index", name=op.f("pk_batches")),
        sa.UniqueConstraint("gateway_id", "seq", name=op.f("uq_batches_gateway_id_seq")),
        sa.UniqueConstraint("hash", name=op.f("uq_batches_hash")),
    )
    op.create_table(
        "devices",
        sa.Column("id", sa.String(length=17), nullable=False),
        sa.Column("owner_id", sa.String(length=17), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("board", sa.Text(), nullable=False),
        sa.Column("gateway_id", sa.String(length=17), nullable=True),
        sa.Column("secret_sealed", sa.LargeBinary(), nullable=False),
        sa.Column("mqtt_bcrypt", sa.Text(), nullable=False),
        sa.Column("mqtt_pbkdf2_sha512", sa.Text(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("status_reason", sa.Text(), nullable=True),
        sa.Column("status_evidence", sa.Text(), nullable=True),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["gateway_id"], ["gateways.id"], name=op.f("fk_devices_gateway_id_gateways")),
        sa.ForeignKeyConstraint(["owner_id"], ["owners.id"], name=op.f("fk_devices_owner_id_owners")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_devices")),
        sa.UniqueConstraint("revision", name=op.f("uq_devices_revision")),
    )
    op.create_index(
        op.f("ix_devices_gateway_id_revision"), "devices", ["gateway_id", "revision"], unique=False
    )
    op.create_index(op.f("ix_devices_owner_id"), "devices", ["owner_id"], unique=False)
    op.create_table(
        "enrolments",
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("owner_id", sa.String(length=17), nullable=False),
        sa.Column("gateway_id", sa.String(length=17), nullable=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("expires_ms", sa.BigInteger(), nullable=False),
        sa.Column("used_ms", sa.BigInteger(), nullable=True),
        sa.Column("subject_id", sa.String(length=17), nullable=True),
        sa.Column("key_hash", sa.LargeBinary(), nullable=True),
        sa.ForeignKeyConstraint(
            ["gateway_id"], ["gateways.id"], name=op.f("fk_enrolments_gateway_id_gateways")
        ),
        sa.ForeignKeyConstraint(["owner_id"], ["owners.id"], name=op.f("fk_enrolments_owner_id_owners")),
        sa.PrimaryKeyConstraint("hash", name=op.f("pk_enrolments")),
    )
    op.create_index(op.f("ix_enrolments_owner_id"), "enrolments", ["owner_id"], unique=False)
    op.create_table(
        "entries",
        sa.Column("transfer_id", sa.LargeBinary(), nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("account_id", sa.String(length=64), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("ordinal", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "amount <> 0 AND amount BETWEEN -9007199254740991 AND 9007199254740991",
            name=op.f("ck_entries_amount_bound"),
        ),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_entries_account_id_accounts")),
        sa.ForeignKeyConstraint(
            ["transfer_id"], ["transfers.id"], name=op.f("fk_entries_transfer_id_transfers")
        ),
        sa.PrimaryKeyConstraint("transfer_id", "position", name=op.f("pk_entries")),
    )
    op.create_index(op.f("ix_entries_account_id_ordinal"), "entries", ["account_id", "ordinal"], unique=False)
    op.create_table(
        "commands",
        sa.Column(
            "id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("device_id", sa.String(length=17), nullable=False),
        sa.Column("counter", sa.BigInteger(), nullable=False),
        sa.Column("operation", sa.Integer(), nullable=False),
        sa.Column("envelope", sa.LargeBinary(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("expires_ms", sa.BigInteger(), nullable=False),
        sa.Column("executed_ms", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["device_id"], ["devices.id"], name=op.f("fk_commands_device_id_devices")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_commands")),
        sa.UniqueConstraint("device_id", "counter", name=op.f("uq_commands_device_id_counter")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "holds",
        sa.Column(
            "id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("device_id", sa.String(length=17), nullable=False),
        sa.Column("account_id", sa.String(length=64), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("released_ms", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("amount >= 0", name=op.f("ck_holds_amount_sign")),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_holds_account_id_accounts")),
        sa.ForeignKeyConstraint(["device_id"], ["devices.id"], name=op.f("fk_holds_device_id_devices")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_holds")),
    )
    op.create_index(op.f("ix_holds_account_id"), "holds", ["account_id"], unique=False)
    op.create_index(op.f("ix_holds_device_id"), "holds", ["device_id"], unique=False)
