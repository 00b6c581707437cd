"""How Portward's processes log: one JSON object a line, on standard error, times in UTC.

Libraries' lines go the same way, from level WARNING. Exceptions come with their traceback and without the values of
variables. Whatever a line says, no secret leaves here: what looks like a token, a password or a hash of one is
replaced, in our own lines too. That is the last line of defence, no licence to log them.
"""

import logging
import re
import sys
from typing import Any

import structlog
from structlog.tracebacks import ExceptionDictTransformer
from structlog.typing import EventDict, WrappedLogger

_HIDDEN = "***"
_SECRET_KEY = re.compile(r"(?i)^(.*[_-])?(password|passwd|token|secret|authorization|admin_token)$")
#: Each keeps its first group and loses the rest of the match.
_SECRETS = (
    re.compile(r"(?i)(\b(?:bearer|basic)\s+)[A-Za-z0-9+/=._~-]{6,}"),
    re.compile(r"(?i)(\b(?:x-(?:auth|subject|service)-token|authorization)\b['\"]?\s*[:=,]\s*b?['\"]?)[^\s'\",)}\]]+"),
    re.compile(r"(?i)(\b(?:password|passwd|pwd|secret|token)\b['\"]?\s*[:=]\s*b?['\"]?)[^\s'\",)}&\]]+"),
    re.compile(r"(\b[a-z][a-z0-9+.-]*://[^\s:/@]*:)[^\s/]+(?=@)"),  # the password in a URL
    re.compile(r"()\bgAAAAA[A-Za-z0-9_=-]{20,}"),  # a Fernet token, as Keystone's are
    re.compile(r"()\$2[aby]\$\d\d\$[./A-Za-z0-9]{53}"),  # a bcrypt hash
)


def log_to_stderr(level: str = "info") -> None:
    """Log so from now on, in this process; ``level`` (debug, info, warning, error) and above."""
    lowest = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.ExceptionRenderer(ExceptionDictTransformer(show_locals=False)),
            _hide_secrets,
            structlog.processors.JSONRenderer(default=lambda value: _hide(repr(value))),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(lowest),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    # Not below WARNING: at INFO, SQLAlchemy shows each statement with the values in it.
    logging.basicConfig(handlers=[_ToStructlog()], level=max(lowest, logging.WARNING), force=True)
    logging.captureWarnings(True)


class _ToStructlog(logging.Handler):
    """Takes what libraries log."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            structlog.get_logger().log(
                record.levelno, record.getMessage(), logger=record.name, exc_info=record.exc_info or None
            )
        except Exception:  # as logging itself has it: a line that cannot be written must not end what wrote it
            self.handleError(record)


def _hide_secrets(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    return {key: _hide_value(key, value) for key, value in event.items()}


def _hide_value(key: str, value: Any) -> Any:
    if value and isinstance(value, str | bytes) and _SECRET_KEY.match(key):
        return _HIDDEN
    if isinstance(value, str):
        return _hide(value)
    if isinstance(value, dict):
        return {str(inner): _hide_value(str(inner), item) for inner, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_hide_value("", item) for item in value]
    return value


def _hide(text: str) -> str:
    for secret in _SECRETS:
        text = secret.sub(rf"\g<1>{_HIDDEN}", text)
    return text
