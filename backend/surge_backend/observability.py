"""Logging: structlog to stderr, the standard library's loggers through it, secrets taken out.

Place in the flow: set up once by `app` or `cli`, before anything else speaks. Other modules only call
`structlog.get_logger()` and log an event name with key-values.

Rules kept: whatever is logged, by us or by a library, passes `redact` last: values under a secret's name and
anything that has a token's shape are replaced, in tracebacks too. Logs hold ids, counts and reasons.
"""

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO

import structlog

REDACTED = "***"
VALUE_DEPTH_MAX = 6  # nested deeper, a value is replaced whole

_SECRET_NAMES = re.compile(
    r"(?i)(^|_)(token|secret|password|passphrase|authorization|cookie|seed|master_key|log_key|private_key|bcrypt|"
    r"pbkdf2_sha512)$"
)
_TOKEN_SHAPE = re.compile(r"(surge_(?:admin|owner|gateway|auditor|enrol)_)[A-Za-z0-9_-]{8,}")
_URL_PASSWORD = re.compile(r"(://[^/\s:@]*:)[^/\s@]+@")


def redact_text(text: str) -> str:
    """`text` without tokens and without passwords in URLs."""
    return _URL_PASSWORD.sub(rf"\1{REDACTED}@", _TOKEN_SHAPE.sub(rf"\1{REDACTED}", text))


def _redact_value(value: Any, depth: int) -> Any:
    if isinstance(value, str):
        return redact_text(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    if depth >= VALUE_DEPTH_MAX:
        return REDACTED
    if isinstance(value, dict):
        return {key: _redact_named(str(key), item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_redact_value(item, depth + 1) for item in value]
    if isinstance(value, bytes | bytearray | memoryview):
        return f"<{len(value)} bytes>"
    return redact_text(str(value))


def _redact_named(name: str, value: Any, depth: int) -> Any:
    if _SECRET_NAMES.search(name) and value is not None:
        return REDACTED
    return _redact_value(value, depth)


def redact(_logger: Any, _method: str, event_dict: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """The structlog processor: stands last before rendering. Bytes are shown by their length only."""
    for name in list(event_dict):
        if not name.startswith("_"):  # structlog's own bookkeeping
            event_dict[name] = _redact_named(name, event_dict[name], 0)
    return event_dict


def set_up_logging(level: str, json: bool, stream: TextIO | None = None) -> None:
    """Send all logging to `stream` (stderr): lines for people, or one JSON object a line."""
    out = sys.stderr if stream is None else stream
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: structlog.types.Processor
    if json:
        renderer = structlog.processors.JSONRenderer()
    else:
        # a plain exception formatter: the rich one shows local variables, which may be secrets
        renderer = structlog.dev.ConsoleRenderer(
            colors=out.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            redact,
            renderer,
        ],
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
    # uvicorn's access log would name every query string; `api.edge` logs requests instead.
    for name, threshold in (
        ("uvicorn.access", logging.CRITICAL),
        ("uvicorn.error", logging.WARNING),
        ("sqlalchemy", logging.WARNING),
        ("alembic", logging.WARNING),
        ("httpx", logging.WARNING),
        ("httpcore", logging.WARNING),
    ):
        library = logging.getLogger(name)
        library.handlers.clear()
        library.propagate = True
        library.setLevel(threshold)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
