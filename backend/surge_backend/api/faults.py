"""The core's errors as problems: which of them is whose fault, and what the answer says.

Place in the flow: `handlers` uses it for every route, `intake` to count what became of a batch.

Rule kept: an error that isn't listed is a defect and answers 500; its text stays in the log.
"""

from sqlalchemy.exc import TimeoutError as PoolTimeout

from surge_backend import errors
from surge_backend.api import problems
from surge_backend.api.problems import Problem, ProblemKind, retry_later
from surge_backend.registry import errors as registry_errors

_UNAUTHENTICATED_HEADERS = {"WWW-Authenticate": 'Bearer realm="surge"'}

_PLAIN: dict[type[Exception], ProblemKind] = {
    errors.MalformedBatch: problems.BATCH_MALFORMED,
    errors.BadSignature: problems.SIGNATURE_INVALID,
    errors.GatewayRevoked: problems.GATEWAY_REVOKED,
    errors.NotInLog: problems.NOT_FOUND,
    errors.LedgerRefused: problems.CONFLICT,
    registry_errors.UnknownSubject: problems.NOT_FOUND,
    registry_errors.EnrolmentUsed: problems.ENROLMENT_USED,
    registry_errors.WrongState: problems.CONFLICT,
    registry_errors.LimitReached: problems.LIMIT_REACHED,
}
_PASSING: dict[type[Exception], tuple[ProblemKind, str]] = {
    errors.StoreLost: (problems.STORE_LOST, "the database's server doesn't answer"),  # before its base
    errors.StoreBusy: (problems.STORE_BUSY, "another process holds the database"),
    errors.StoreFull: (problems.STORE_FULL, "the database can't write"),
    PoolTimeout: (problems.STORE_BUSY, "every connection to the database is in use"),
    errors.KeyUnreadable: (problems.KEY_UNREADABLE, "nothing was stored"),
    errors.LogForked: (problems.LOG_STOPPED, "the log is not what was signed"),
}


def _conflict(error: errors.BatchConflict) -> Problem:
    return Problem(problems.BATCH_CONFLICT, str(error), seq=error.seq)


def _out_of_order(error: errors.OutOfOrder) -> Problem:
    return Problem(problems.OUT_OF_ORDER, str(error), seq=error.seq, expected_seq=error.expected_seq)


def _chain_broken(error: errors.ChainBroken) -> Problem:
    return Problem(
        problems.CHAIN_BROKEN, str(error), seq=error.seq, expected_previous=error.expected_previous.hex()
    )


def problem_of(error: Exception, retry_after_s: int) -> Problem | None:
    """The problem that answers `error`; None if the error is a defect."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, errors.BatchConflict):
        return _conflict(error)
    if isinstance(error, errors.OutOfOrder):
        return _out_of_order(error)
    if isinstance(error, errors.ChainBroken):
        return _chain_broken(error)
    if isinstance(error, registry_errors.EnrolmentRefused):
        return Problem(problems.UNAUTHENTICATED, str(error), headers=_UNAUTHENTICATED_HEADERS)
    for kind, (problem, detail) in _PASSING.items():
        if isinstance(error, kind):
            # the driver's own words may name files: they are for the log
            return retry_later(problem, detail, retry_after_s)
    for kind, problem in _PLAIN.items():
        if isinstance(error, kind):
            return Problem(problem, str(error))
    return None
