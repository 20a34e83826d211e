"""Which RabbitMQ and PostgreSQL the tests use: given by URL, in containers, or private instances, in this order."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

from tests.support.servers import containers, postgres, rabbitmq
from tests.support.servers.errors import MissingServerError, ServerFailedError

AMQP_VARIABLE = "PROMGITHUB_TEST_AMQP_URL"
DATABASE_VARIABLE = "PROMGITHUB_TEST_DATABASE_URL"


class Server(Protocol):
    """A server that a test session shares."""

    @property
    def url(self) -> str:
        """Where to connect to, once `start` has returned."""

    @property
    def description(self) -> str:
        """Where the server comes from, in one line, without any password."""

    async def start(self) -> None:
        """Make sure that the server answers; raise `ServerFailedError` if it does not."""

    def close(self) -> None:
        """End the server if the session started it."""


@dataclass(frozen=True)
class GivenServer:
    """A server that runs already, given by an environment variable. `probe` logs in or raises `OSError`."""

    variable: str
    url: str
    probe: Callable[[str], Awaitable[None]]

    @property
    def description(self) -> str:
        """Which variable gave it, and its address."""
        address = urlsplit(self.url)
        return f"{address.hostname}:{address.port or 'default port'}, given by {self.variable}"

    async def start(self) -> None:
        """Log in once; raise `ServerFailedError` if that fails."""
        try:
            await self.probe(self.url)
        except OSError as error:
            raise ServerFailedError(f"{self.description}, does not answer: {error}") from error

    def close(self) -> None:
        """Leave it running."""


def find_rabbit(environment: Mapping[str, str]) -> Server:
    """Choose the RabbitMQ of the session; raise `MissingServerError` if there is none."""
    if url := environment.get(AMQP_VARIABLE):
        return GivenServer(AMQP_VARIABLE, url, rabbitmq.probe)
    if containers.docker_answers():
        return containers.rabbit_container()
    try:
        return rabbitmq.RabbitServer()
    except MissingServerError as error:
        raise _nothing_found(error, f"{AMQP_VARIABLE}=amqp://user:password@host:5672/") from error


def find_postgres(environment: Mapping[str, str]) -> Server:
    """Choose the PostgreSQL of the session; raise `MissingServerError` if there is none."""
    if url := environment.get(DATABASE_VARIABLE):
        return GivenServer(DATABASE_VARIABLE, url, postgres.probe)
    if containers.docker_answers():
        return containers.postgres_container()
    try:
        return postgres.PostgresServer()
    except MissingServerError as error:
        raise _nothing_found(error, f"{DATABASE_VARIABLE}=postgresql://user:password@host:5432/postgres") from error


async def start_all(
    finders: Sequence[Callable[[Mapping[str, str]], Server]], environment: Mapping[str, str]
) -> list[Server]:
    """Choose and start servers, together; return them in the order of `finders`.

    Raises `MissingServerError`, naming all that were not found, or `ServerFailedError`.
    """
    servers, missing = [], []
    for find in finders:
        try:
            servers.append(find(environment))
        except MissingServerError as error:
            missing.append(str(error))
    if missing:
        raise MissingServerError("\n".join(missing))
    await asyncio.gather(*(server.start() for server in servers))
    return servers


def _nothing_found(error: MissingServerError, variable: str) -> MissingServerError:
    return MissingServerError(
        f"{error}\n  Docker           start its daemon: the tests then use containers\n  a running server {variable}"
    )
