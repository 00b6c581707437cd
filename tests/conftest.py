"""What all tests share: logs of servers in the test's own process go nowhere, unless a test captures them."""

import structlog

from servers.fixtures import blank_url, database_url, mariadb, postgresql

__all__ = ["blank_url", "database_url", "mariadb", "postgresql"]

structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
