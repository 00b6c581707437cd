"""A real PostgreSQL server, of whatever version Debian has installed."""

import signal

import psycopg
from sqlalchemy import URL

from servers.process import DatabaseServer, find_command

_BINARIES = "/usr/lib/postgresql/*/bin"
#: User ``guarded`` needs its password; the owner, ``portward``, none.
_ACCESS = "local all guarded scram-sha-256\nlocal all all trust\n"


class PostgreSQL(DatabaseServer):
    """A PostgreSQL server; see ``DatabaseServer``."""

    stop_signal = signal.SIGINT  # fast shutdown: ends the sessions, then itself
    orphan_signal = "QUIT"

    def initialise(self) -> None:
        """Make the cluster, in locale C and UTF-8."""
        initdb = find_command("initdb", _BINARIES)
        self.run([initdb, "-D", str(self.data), "-U", "portward", "-A", "trust", "-E", "UTF8", "--locale=C", "-N"])
        (self.data / "pg_hba.conf").write_text(_ACCESS)

    def command(self) -> list[str]:
        """The server; nothing waits for the disk."""
        options = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.directory),
            "fsync": "off",
            "synchronous_commit": "off",
            "full_page_writes": "off",
            "shared_buffers": "16MB",
            "max_connections": "200",
            "autovacuum": "off",
        }
        server = find_command("postgres", _BINARIES)
        return [
            server,
            "-D",
            str(self.data),
            *(word for key, value in options.items() for word in ("-c", f"{key}={value}")),
        ]

    def answers(self) -> bool:
        """Whether it takes connections."""
        try:
            self.execute("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    def execute(self, statement: str) -> None:
        """Execute one statement as the owner, in database ``postgres``."""
        with psycopg.connect(
            host=str(self.directory), user="portward", dbname="postgres", autocommit=True, connect_timeout=10
        ) as connection:
            connection.execute(statement.encode())

    def create_statement(self, name: str) -> str:
        """What makes an empty database ``name``."""
        return f"CREATE DATABASE {name}"

    def url(self, database: str, user: str = "portward", password: str = "") -> str:
        """The URL of ``database`` for ``user``."""
        made = URL.create("postgresql", user, password or None, database=database, query={"host": str(self.directory)})
        return made.render_as_string(hide_password=False)
