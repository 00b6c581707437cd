"""A real MariaDB server, of whatever version Debian has installed."""

import signal
from pathlib import Path

import pymysql
from sqlalchemy import URL

from servers.process import DatabaseServer, find_command

#: Where the package keeps what `mariadb-install-db` feeds to the server; that script wants the client's package too.
_SCRIPTS = Path("/usr/share/mysql")
_SYSTEM_TABLES = ("mysql_system_tables.sql", "mysql_system_tables_data.sql")
#: The disk is never waited for, and little memory is taken.
_OPTIONS = [
    "--innodb-buffer-pool-size=32M",
    "--innodb-log-file-size=16M",
    "--innodb-flush-log-at-trx-commit=0",
    "--innodb-flush-method=nosync",
    "--innodb-doublewrite=0",
    "--key-buffer-size=1M",
    "--performance-schema=off",
]


class MariaDB(DatabaseServer):
    """A MariaDB server; see ``DatabaseServer``. Its owner is ``root``, without a password."""

    stop_signal = signal.SIGTERM
    orphan_signal = "KILL"

    def initialise(self) -> None:
        """Make the system tables, as the package's own script does."""
        text = "create database mysql;\nuse mysql;\nset @auth_root_socket=NULL;\nset @skip_auth_anonymous=1;\n"
        text += "".join((_SCRIPTS / name).read_text() for name in _SYSTEM_TABLES)
        self.run([*self._server(), "--bootstrap"], input=text.encode())

    def command(self) -> list[str]:
        """The server, without any port."""
        return [
            *self._server(),
            "--skip-networking",
            "--skip-name-resolve",
            f"--socket={self.directory}/socket",
            f"--pid-file={self.directory}/pid",
            "--max-connections=200",
        ]

    def answers(self) -> bool:
        """Whether it takes connections."""
        try:
            self.execute("SELECT 1")
        except pymysql.OperationalError:
            return False
        return True

    def execute(self, statement: str) -> None:
        """Execute one statement as root."""
        connection = pymysql.connect(unix_socket=f"{self.directory}/socket", user="root", connect_timeout=10)
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement)
        finally:
            connection.close()

    def create_statement(self, name: str) -> str:
        """What makes an empty database ``name``, with the server's own character set, which is not ours."""
        return f"CREATE DATABASE {name}"

    def url(self, database: str, user: str = "root", password: str = "") -> str:
        """The URL of ``database`` for ``user``."""
        query = {"unix_socket": f"{self.directory}/socket"}
        made = URL.create("mariadb", user, password or None, database=database, query=query)
        return made.render_as_string(hide_password=False)

    def _server(self) -> list[str]:
        return [find_command("mariadbd"), "--no-defaults", f"--datadir={self.data}", *_OPTIONS]
