"""How Portward's processes log: one JSON object a line, on standard error, times in UTC.

Exceptions come with their traceback and without the values of variables: a token may be among those.
"""

import logging
import sys

import structlog
from structlog.tracebacks import ExceptionDictTransformer


def log_to_stderr() -> None:
    """Log so from now on, in this process; level INFO and above."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.ExceptionRenderer(ExceptionDictTransformer(show_locals=False)),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
