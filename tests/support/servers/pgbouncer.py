"""pgbouncer for tests: a private instance between promgithub and a PostgreSQL of the test's own."""

import os
import shutil
import signal
from typing import Literal
from urllib.parse import urlsplit, urlunsplit

from tests.support.servers import postgres
from tests.support.servers.daemon import Daemon
from tests.support.servers.errors import MissingServerError
from tests.support.servers.private import PrivateServer

HOW_TO_INSTALL = """\
  Debian, Ubuntu   sudo apt-get install pgbouncer
  macOS            brew install pgbouncer"""

PoolMode = Literal["session", "transaction"]

# As docs/deploying.md says.
IGNORED = (
    "idle_in_transaction_session_timeout",
    "tcp_keepalives_idle",
    "tcp_keepalives_interval",
    "tcp_keepalives_count",
)

_CONFIG = """\
[databases]
* = host={host} port={server_port} user=postgres

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = {mode}
default_pool_size = {pool_size}
server_round_robin = 1
ignore_startup_parameters = {ignored}
"""
"""With `auth_type = any`, every client becomes the user of `[databases]`."""


class PgBouncer(PrivateServer):
    """A private pgbouncer before a PostgreSQL server, as whose superuser it logs in.

    Raises `MissingServerError` when created where pgbouncer is not installed.
    """

    name = "pgbouncer"
    graceful = signal.SIGINT

    def __init__(self, server_url: str, mode: PoolMode, *, pool_size: int, ignored: tuple[str, ...] = IGNORED) -> None:
        """`server_url` is that of a database.

        `pool_size` is the maximum number of connections to it. In transaction mode they take turns.
        """
        program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
        if program is None:
            raise MissingServerError(f"pgbouncer is not installed:\n{HOW_TO_INSTALL}")
        self._program = program
        self._server = urlsplit(server_url)
        self._mode = mode
        self._pool_size = pool_size
        self._ignored = ignored
        super().__init__(program)

    @property
    def url(self) -> str:
        """The URL of the database, by way of pgbouncer."""
        return urlunsplit(self._server._replace(netloc=f"postgres@127.0.0.1:{self.port}"))

    def _prepare(self) -> Daemon:
        user = postgres.unprivileged_user()
        if user is not None:
            shutil.chown(self.directory, user)
        config = self.directory / "pgbouncer.ini"
        content = _CONFIG.format(
            host=self._server.hostname,
            server_port=self._server.port or 5432,
            port=self.port,
            mode=self._mode,
            pool_size=self._pool_size,
            ignored=", ".join(self._ignored),
        )
        config.write_text(content, "utf-8")
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.directory)}
        return Daemon([self._program, str(config)], environment, self.directory / "server.log", user=user)

    async def _initialise(self) -> None:
        pass

    async def _probe(self) -> None:
        await postgres.probe(self.url)
