"""RabbitMQ and PostgreSQL for benchmarks: the tests' private instances, without the settings that speed up tests."""

from tests.support.servers.daemon import Daemon
from tests.support.servers.postgres import PostgresServer
from tests.support.servers.rabbitmq import RabbitServer

_ERLANG = "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS"
_ONE_SCHEDULER = " +S 1:1"

# A commit is on disk when it returns, as in production; memory is that of a small server.
_POSTGRES = ("fsync=on", "full_page_writes=on", "shared_buffers=512MB", "max_wal_size=4GB")


class FastRabbit(RabbitServer):
    """A RabbitMQ that uses every core."""

    def _write_environment(self) -> dict[str, str]:
        environment = super()._write_environment()
        return environment | {_ERLANG: environment[_ERLANG].replace(_ONE_SCHEDULER, "")}


class DurablePostgres(PostgresServer):
    """A PostgreSQL that writes to disk what it has committed."""

    def _daemon_of(self, command: list[str]) -> Daemon:
        server = command[0].endswith("/postgres")
        settings = [argument for setting in _POSTGRES for argument in ("-c", setting)]
        return super()._daemon_of([*command, *settings] if server else command)
