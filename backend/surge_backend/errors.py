"""What the backend's core refuses or can't do: one base, and what each caller has to tell apart.

Place in the flow: raised by ``db``, ``ledger``, ``log`` and ``ingest``; the API turns each into its answer.

Does not: know of HTTP. A report that isn't accepted is no error but a verdict, stored with its reason.

Rules it keeps: a message says what happened, to what, and what to do next, and never holds a secret. Where
one of these is raised inside a transaction, nothing of that transaction is stored (but for alarms, which
``ingest`` writes in their own).
"""


class BackendError(Exception):
    """Base of all errors of the backend's core."""


# --- the database -----------------------------------------------------------------------------------------


class StoreBusy(BackendError):
    """The database is locked by someone else for longer than the busy time-out. Nothing was stored; try
    again.
    """


class StoreFull(BackendError):
    """The disk is full or failed on a write. Nothing was stored; make room, then try again: no restart is
    needed.
    """


class StoreLost(StoreBusy):
    """The database's server doesn't answer, or ended the connection. If that was while it committed, it may
    have stored all of the transaction; what came to be stored is there when it answers again. No restart is
    needed.
    """


class DatabaseTooNew(BackendError):
    """The database was written by a newer version of the backend."""


class DatabaseNotReady(BackendError):
    """The database has no tables, or those of an older version."""


# --- a batch that is refused as a whole ---------------------------------------------------------------------


class BatchRefused(BackendError):
    """Base: the batch was not stored."""


class MalformedBatch(BatchRefused):
    """The bytes are no batch: ``reason`` is the decoder's stable text."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"not a batch: {reason}" + (f" ({detail})" if detail else ""))
        self.reason = reason
        self.detail = detail


class BadSignature(BatchRefused):
    """The envelope names another gateway than the sender, or its signature is not by that gateway's key."""


class GatewayRevoked(BatchRefused):
    """The gateway is not known or was revoked."""


class BatchConflict(BatchRefused):
    """The gateway sent other bytes under a seq that is settled already. An alarm is stored (threat 10)."""

    def __init__(self, gateway_id: str, seq: int) -> None:
        super().__init__(f"batch {seq} of {gateway_id} is settled with other bytes; the settled one stays")
        self.gateway_id = gateway_id
        self.seq = seq


class OutOfOrder(BatchRefused):
    """The batch is ahead of the gateway's chain: ``expected_seq`` comes first."""

    def __init__(self, gateway_id: str, seq: int, expected_seq: int) -> None:
        super().__init__(f"batch {seq} of {gateway_id} is ahead of its chain; send {expected_seq} first")
        self.gateway_id = gateway_id
        self.seq = seq
        self.expected_seq = expected_seq


class ChainBroken(BatchRefused):
    """The batch has the right seq but another ``previous`` than the hash of the gateway's last payload."""

    def __init__(self, gateway_id: str, seq: int, expected_previous: bytes) -> None:
        super().__init__(
            f"batch {seq} of {gateway_id} doesn't continue its chain;"
            f" previous has to be {expected_previous.hex()}"
        )
        self.gateway_id = gateway_id
        self.seq = seq
        self.expected_previous = expected_previous


# --- money and the log --------------------------------------------------------------------------------------


class LedgerError(BackendError):
    """Base: the ledger refused a transfer before it changed anything."""


class LedgerRefused(LedgerError):
    """A transfer breaks a rule: not integers, out of bounds, not balanced, or an account would go below
    zero.
    """


class LedgerConflict(LedgerError):
    """A transfer with this id is posted already, with other content."""


class LogForked(BackendError):
    """The stored log doesn't match the heads that were signed: signing stops until a person has looked
    (threat 13).
    """


class InvariantViolated(BackendError):
    """Something that must always hold does not. The transaction is rolled back; this is a defect, not bad
    input.
    """


class NotInLog(BackendError):
    """The log has no such entry, or no tree of that size yet."""


class KeyUnreadable(BackendError):
    """A device's sealed secret doesn't open: another master key, or damage. Nothing is decided without it."""
