"""PostgreSQL for tests: a private instance, and databases of a test's own."""

import os
import pwd
import secrets
import shutil
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from tests.support.servers.daemon import Daemon
from tests.support.servers.errors import MissingServerError
from tests.support.servers.private import PrivateServer, folder_with

_PROGRAMS = ("initdb", "postgres", "pg_basebackup")
_PROBE_SECONDS = 5.0
_COMMAND_SECONDS = 30.0
_INITDB_SECONDS = 60.0
_COPY_SECONDS = 60.0

HOW_TO_INSTALL = """\
  Debian, Ubuntu   sudo apt-get install postgresql
  macOS            brew install postgresql@17"""

# Tests kill processes, not the operating system, so what the kernel was given is as good as on disk.
_SETTINGS = ("fsync=off", "full_page_writes=off", "shared_buffers=32MB", "jit=off", "unix_socket_directories=")


class PostgresServer(PrivateServer):
    """A private PostgreSQL cluster with the superuser postgres, who needs no password.

    Raises `MissingServerError` when created where PostgreSQL is not installed.
    """

    name = "PostgreSQL"
    graceful = signal.SIGINT  # the "fast" shutdown: does not wait for clients to leave

    def __init__(self, prefix: Sequence[str] = ()) -> None:
        """`prefix` is put before the command of the server, such as `env` with variables."""
        self._prefix = prefix
        self._programs = _installed()
        self._user = unprivileged_user()
        super().__init__(self._programs)

    @property
    def url(self) -> str:
        """Where to connect to, as superuser."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    @property
    def _data(self) -> Path:
        return self.directory / "data"

    def _prepare(self) -> Daemon:
        if self._user is not None:
            os.chown(self.directory, pwd.getpwnam(self._user).pw_uid, -1)
        command = [str(self._programs / "postgres"), "-D", str(self._data), "-h", "127.0.0.1", "-p", str(self.port)]
        settings = [argument for setting in _SETTINGS for argument in ("-c", setting)]
        return self._daemon_of([*self._prefix, *command, *settings])

    def _daemon_of(self, command: list[str]) -> Daemon:
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.directory), "LC_ALL": "C.UTF-8"}
        # SIGQUIT is the "immediate" shutdown: as good as a crash, but it leaves no shared memory behind.
        log = self.directory / "server.log"
        return Daemon(command, environment, log, user=self._user, last_signal=signal.SIGQUIT)

    async def _initialise(self) -> None:
        if self._data.exists():
            return
        command = [str(self._programs / "initdb"), "-D", str(self._data), "-U", "postgres", "-A", "trust", "--no-sync"]
        initdb = self._daemon_of([*command, "--encoding=UTF8", "--locale=C"])
        initdb.start()
        if await initdb.ended(_INITDB_SECONDS) != 0:
            raise self._failure("could not be initialised")

    async def _probe(self) -> None:
        await probe(self.url)

    async def follow(self, primary: "PostgresServer") -> None:
        """Start as a standby of a running server, with a copy of its data. This server must not be running."""
        shutil.rmtree(self._data, ignore_errors=True)
        program = str(self._programs / "pg_basebackup")
        copy = self._daemon_of(
            [program, "-d", primary.url, "-D", str(self._data), "--write-recovery-conf", "-c", "fast", "--no-sync"]
        )
        copy.start()
        if await copy.ended(_COPY_SECONDS) != 0:
            raise self._failure("could not copy the primary")
        await self.start()

    async def promote(self) -> None:
        """Make a standby a primary, and wait until it is one."""
        await _execute(self.url, "SELECT pg_promote()")


def _installed() -> Path:
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_version, reverse=True)
    homebrew = sorted(Path("/opt/homebrew/opt").glob("postgresql@*/bin"), reverse=True)
    folder = folder_with(_PROGRAMS, [*debian, *map(Path, os.get_exec_path()), *homebrew])
    if folder is None:
        raise MissingServerError(f"PostgreSQL is not installed:\n{HOW_TO_INSTALL}")
    return folder


def _version(folder: Path) -> float:
    try:
        return float(folder.parent.name)
    except ValueError:
        return 0.0


def unprivileged_user() -> str | None:
    """Return the account to run as: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return None
    return "postgres" if any(entry.pw_name == "postgres" for entry in pwd.getpwall()) else "nobody"


async def probe(url: str) -> None:
    """Log in to a server; raise `OSError` if it does not answer or refuses."""
    try:
        await (await asyncpg.connect(url, timeout=_PROBE_SECONDS)).close(timeout=_PROBE_SECONDS)
    except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise ConnectionError(str(error)) from error


@asynccontextmanager
async def fresh_database(server_url: str) -> AsyncIterator[str]:
    """Create a database and give its URL; drop it afterwards, even if clients are still connected."""
    name = f"promgithub_test_{secrets.token_hex(6)}"
    await _execute(server_url, f'CREATE DATABASE "{name}"')
    try:
        yield urlunsplit(urlsplit(server_url)._replace(path=f"/{name}"))
    finally:
        await _execute(server_url, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


async def _execute(server_url: str, statement: str) -> None:
    connection = await asyncpg.connect(server_url, timeout=_PROBE_SECONDS, command_timeout=_COMMAND_SECONDS)
    try:
        await connection.execute(statement)
    finally:
        await connection.close(timeout=_PROBE_SECONDS)
