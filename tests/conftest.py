"""What all tests share: logs of servers in the test's own process go nowhere, unless a test captures them."""

import structlog

structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
