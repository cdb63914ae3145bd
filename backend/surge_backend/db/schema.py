"""Every table of the backend: one MetaData, SQLAlchemy Core, the same on SQLite and PostgreSQL.

Place in the flow: ``migrations/`` builds these tables, ``engine`` opens the database, every other module
reads and writes through these names. A test holds the migrations and this module together.

Does not: query, convert or check; the rules of money live in ``ledger``, those of reports in ``verify``.

Rules it keeps:

* numbers are BigInteger, times are milliseconds since 1970 on the backend's clock (``*_ms``), bytes are
  LargeBinary;
* money is integer micro-credits; a CHECK is the second line behind ``ledger``, never the first;
* ``accepted_runs``, ``batch_digests``, ``rejections``, ``entries``, ``log_nodes``, ``batches``, ``tariffs``
  and ``registry_events`` are only ever added to;
* no row is kept for each accepted report: a device's row says which numbers it has and where the newest
  stand, ``accepted_runs`` has the others, many to a row. With a row for each, found by its name, every report
  dirtied a page of its own: 7.1 kB written for each with 10,000 devices and a million reports, now 1.4 kB;
* these tables have no foreign key to ``batches``: all are written in one transaction by ``ingest`` alone.
"""

from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from surge_wire.limits import UINT53_MAX

# Device status, and gateways' (which are never frozen).
ACTIVE: Final = "active"
FROZEN: Final = "frozen"
RETIRED: Final = "retired"

NAMING: Final = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}

# A number that the database gives; SQLite counts by itself only in a column declared INTEGER.
AutoId = BigInteger().with_variant(Integer(), "sqlite")

metadata = MetaData(naming_convention=NAMING)

# --- who is who -----------------------------------------------------------------------------------------

owners = Table(
    "owners",
    metadata,
    Column("id", String(17), primary_key=True),
    Column("name", Text, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
)

gateways = Table(
    "gateways",
    metadata,
    Column("id", String(17), primary_key=True),
    Column("owner_id", ForeignKey("owners.id"), nullable=False, index=True),
    Column("name", Text, nullable=False),
    Column("public_key", LargeBinary, nullable=False),
    Column("status", String(16), nullable=False),
    # The chain of batches: what the next one must carry.
    Column("next_seq", BigInteger, nullable=False, server_default="0"),
    Column("chain_hash", LargeBinary, nullable=False),  # 32 zero bytes before the first batch
    Column("created_ms", BigInteger, nullable=False),
)

devices = Table(
    "devices",
    metadata,
    Column("id", String(17), primary_key=True),
    Column("owner_id", ForeignKey("owners.id"), nullable=False, index=True),
    Column("name", Text, nullable=False),
    Column("board", Text, nullable=False),
    Column("gateway_id", ForeignKey("gateways.id"), nullable=True),
    Column("secret_sealed", LargeBinary, nullable=False),
    Column("mqtt_bcrypt", Text, nullable=False),
    Column("mqtt_pbkdf2_sha512", Text, nullable=False),
    Column("status", String(16), nullable=False),
    Column("status_reason", Text, nullable=True),  # what a person reads
    Column("status_evidence", Text, nullable=True),  # JSON: digests, batches, numbers
    # Rises over all devices with every change to any row, so that "what changed since" is one range scan.
    Column("revision", BigInteger, nullable=False, unique=True),
    Column("created_ms", BigInteger, nullable=False),
    Index(None, "gateway_id", "revision"),
)

tokens = Table(
    "tokens",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("hash", LargeBinary, nullable=False, unique=True),
    Column("role", String(16), nullable=False),
    Column("subject_id", Text, nullable=False, index=True),
    Column("label", Text, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("expires_ms", BigInteger, nullable=True),
    Column("revoked_ms", BigInteger, nullable=True),
)

enrolments = Table(
    "enrolments",
    metadata,
    Column("hash", LargeBinary, primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("owner_id", ForeignKey("owners.id"), nullable=False, index=True),
    Column("gateway_id", ForeignKey("gateways.id"), nullable=True),
    Column("name", Text, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("expires_ms", BigInteger, nullable=False),
    Column("used_ms", BigInteger, nullable=True),
    Column("subject_id", String(17), nullable=True),
    Column("key_hash", LargeBinary, nullable=True),
)

commands = Table(
    "commands",
    metadata,
    Column("id", AutoId, primary_key=True, autoincrement=True),
    Column("device_id", ForeignKey("devices.id"), nullable=False),
    Column("counter", BigInteger, nullable=False),
    Column("operation", Integer, nullable=False),
    Column("envelope", LargeBinary, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("expires_ms", BigInteger, nullable=False),
    Column("executed_ms", BigInteger, nullable=True),
    UniqueConstraint("device_id", "counter"),
    sqlite_autoincrement=True,  # ids are cursors: one that was given is never given again
)

# What changed in the tables above, and from which entry of the log on it counts (registry.events).
registry_events = Table(
    "registry_events",
    metadata,
    Column("ordinal", BigInteger, primary_key=True, autoincrement=False),  # 1, 2, 3, without a hole
    Column("tree_size", BigInteger, nullable=False),
    Column("time_ms", BigInteger, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("subject_id", String(17), nullable=False),
    Column("detail", LargeBinary, nullable=False),  # CBOR map
    Index(None, "tree_size"),
)

# --- batches, reports and what became of them -------------------------------------------------------------

batches = Table(
    "batches",
    metadata,
    Column("log_index", BigInteger, primary_key=True, autoincrement=False),
    Column("hash", LargeBinary, nullable=False, unique=True),  # SHA-256 of the envelope
    Column("gateway_id", ForeignKey("gateways.id"), nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("received_ms", BigInteger, nullable=False),
    Column("envelope", LargeBinary, nullable=False),
    Column("settlement", LargeBinary, nullable=False),
    Column("answer", LargeBinary, nullable=False),
    # CBOR array of the devices whose windows and summaries this gateway may give, decided when the batch
    # came.
    Column("window_devices", LargeBinary, nullable=True),
    Column("report_count", BigInteger, nullable=False),
    Column("accepted_count", BigInteger, nullable=False),
    Column("sample_count", BigInteger, nullable=False),
    UniqueConstraint("gateway_id", "seq"),
)

# Of the reports of a batch, by position, the first 16 bytes of each envelope's SHA-256 (verify.reading).
batch_digests = Table(
    "batch_digests",
    metadata,
    Column("log_index", BigInteger, primary_key=True, autoincrement=False),
    Column("digests", LargeBinary, nullable=False),
)

# Where accepted reports stand (ingest.places): runs of them that were moved here from `recent`, below.
accepted_runs = Table(
    "accepted_runs",
    metadata,
    Column("device_id", String(17), primary_key=True),
    Column("boot", BigInteger, primary_key=True, autoincrement=False),
    Column("seq_min", BigInteger, primary_key=True, autoincrement=False),
    Column("seq_max", BigInteger, nullable=False),
    Column("log_index", BigInteger, nullable=False),  # of the last one
    Column("places", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)

rejections = Table(
    "rejections",
    metadata,
    Column("log_index", BigInteger, primary_key=True, autoincrement=False),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("device_id", String(17), nullable=True),  # as claimed; proven only from code DUPLICATE on
    Column("boot", BigInteger, nullable=True),
    Column("seq", BigInteger, nullable=True),
    Column("code", Integer, nullable=False),
    Column("detail", Text, nullable=False),
    Column("received_ms", BigInteger, nullable=False),
    Index(None, "device_id", "log_index", "position"),
)

# What a gateway says it put into windows instead of forwarding: a claim that explains a gap, and nothing
# else.
summaries = Table(
    "summaries",
    metadata,
    Column("log_index", BigInteger, primary_key=True, autoincrement=False),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("device_id", String(17), nullable=False),
    Column("boot", BigInteger, nullable=False),
    Column("ranges", LargeBinary, nullable=False),  # CBOR [[first, last], ...]
    Column("reports", BigInteger, nullable=False),
    Index(None, "device_id", "boot"),
)


def _boot_columns(prefix: str = "") -> tuple[Column[Any], ...]:
    """What is known of one boot beside its number; ``prefix`` goes before the names of its counts."""
    return (
        Column("seq_max", BigInteger, nullable=False),
        Column("previous_end", BigInteger, nullable=True),  # what this boot declared as the end of boot - 1
        Column("first_seen_ms", BigInteger, nullable=False),
        Column("last_seen_ms", BigInteger, nullable=False),
        Column(prefix + "reports", BigInteger, nullable=False),
        Column(prefix + "samples", BigInteger, nullable=False),
        Column(prefix + "bytes", BigInteger, nullable=False),
        # Which numbers up to seq_max are accepted: all but those in `gaps` (verify.history).
        Column("gaps_from", BigInteger, nullable=False),
        Column("gaps", LargeBinary, nullable=True),  # pairs first, last; 32 bits each, little-endian
        Column("recent", LargeBinary, nullable=False),  # places of the newest accepted (ingest.places)
        Column("claim_seq", BigInteger, nullable=True),  # the report with the device's newest usage claim
        Column("claim", Text, nullable=True),  # JSON: reports, samples, bytes, dropped, fuel, energy_uj
    )


# A device's totals and its newest boot: the one row that nearly every batch changes for a device.
device_totals = Table(
    "device_totals",
    metadata,
    Column("device_id", String(17), primary_key=True),
    Column("reports", BigInteger, nullable=False),  # rises with every change: who writes checks it
    Column("samples", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    # The owner's part that this device earned, and its dust in 1/10_240_000 micro-credit (ledger.pricing).
    Column("microcredits", BigInteger, nullable=False),
    Column("carry", BigInteger, nullable=False),
    Column("last_report_ms", BigInteger, nullable=False),
    Column("command_counter", BigInteger, nullable=True),  # the last command that the device says it executed
    Column("boot_max", BigInteger, nullable=False),
    *_boot_columns("boot_"),
)

# The boots before the newest. `db.boots` reads both.
device_boots = Table(
    "device_boots",
    metadata,
    Column("device_id", String(17), primary_key=True),
    Column("boot", BigInteger, primary_key=True, autoincrement=False),
    *_boot_columns(),
    sqlite_with_rowid=False,
)

# --- the public log -----------------------------------------------------------------------------------------

log_nodes = Table(
    "log_nodes",
    metadata,
    Column("level", Integer, primary_key=True, autoincrement=False),
    Column("idx", BigInteger, primary_key=True, autoincrement=False),
    Column("hash", LargeBinary, nullable=False),
)

log_heads = Table(
    "log_heads",
    metadata,
    Column("tree_size", BigInteger, primary_key=True, autoincrement=False),
    Column("root", LargeBinary, nullable=False),
    Column("time_ms", BigInteger, nullable=False),
    Column("envelope", LargeBinary, nullable=False),
)

# --- money ----------------------------------------------------------------------------------------------

accounts = Table(
    "accounts",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("owner_id", ForeignKey("owners.id"), nullable=True, index=True),
    Column("may_go_negative", Boolean, nullable=False),
    Column("balance", BigInteger, nullable=False, server_default="0"),
    Column("carry", BigInteger, nullable=False, server_default="0"),
    CheckConstraint("balance >= 0 OR may_go_negative", name="balance_sign"),
    CheckConstraint(f"balance BETWEEN -{UINT53_MAX} AND {UINT53_MAX}", name="balance_bound"),
    CheckConstraint("carry >= 0", name="carry_sign"),
)

transfers = Table(
    "transfers",
    metadata,
    Column("id", LargeBinary, primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("reference", LargeBinary, nullable=False),
    Column("content_hash", LargeBinary, nullable=False),
    Column("log_index", BigInteger, nullable=True, index=True),
    Column("created_ms", BigInteger, nullable=False),
    # The order in which transfers were posted, for pages: newest first.
    Column("ordinal", BigInteger, nullable=False, unique=True),
)

entries = Table(
    "entries",
    metadata,
    Column("transfer_id", ForeignKey("transfers.id"), primary_key=True),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("account_id", ForeignKey("accounts.id"), nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("ordinal", BigInteger, nullable=False),  # the transfer's
    Index(None, "account_id", "ordinal"),
    CheckConstraint(f"amount <> 0 AND amount BETWEEN -{UINT53_MAX} AND {UINT53_MAX}", name="amount_bound"),
)

tariffs = Table(
    "tariffs",
    metadata,
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("valid_from_ms", BigInteger, nullable=False),
    Column("sample_microcredits", BigInteger, nullable=False),
    Column("kib_microcredits", BigInteger, nullable=False),
    Column("gateway_share_bp", Integer, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    CheckConstraint("gateway_share_bp BETWEEN 0 AND 10000", name="share_bound"),
    CheckConstraint("sample_microcredits >= 0 AND kib_microcredits >= 0", name="price_sign"),
)

holds = Table(
    "holds",
    metadata,
    Column("id", AutoId, primary_key=True, autoincrement=True),
    Column("device_id", ForeignKey("devices.id"), nullable=False, index=True),
    Column("account_id", ForeignKey("accounts.id"), nullable=False, index=True),
    Column("amount", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("released_ms", BigInteger, nullable=True),
    CheckConstraint("amount >= 0", name="amount_sign"),
)

# --- for people -----------------------------------------------------------------------------------------

alarms = Table(
    "alarms",
    metadata,
    Column("id", AutoId, primary_key=True, autoincrement=True),
    Column("time_ms", BigInteger, nullable=False),
    Column("kind", String(32), nullable=False),
    Column("subject", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Index(None, "subject", "id"),
)

# --- telemetry --------------------------------------------------------------------------------------------

# What a device has in the telemetry store: its first series, in the order of the log (projection.series).
telemetry_series = Table(
    "telemetry_series",
    metadata,
    Column("device_id", String(17), primary_key=True),
    Column("name", String(64), primary_key=True),
    Column("unit", String(16), primary_key=True),
    Column("log_index", BigInteger, nullable=False),  # where it stands first
    sqlite_with_rowid=False,
)

projector_state = Table(
    "projector_state",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("value", BigInteger, nullable=False),
)
