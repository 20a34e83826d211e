"""Servers in Docker containers, started and removed by testcontainers."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from docker.errors import DockerException  # type: ignore[import-untyped]
from testcontainers.core.container import DockerContainer
from testcontainers.core.docker_client import DockerClient

from tests.support.servers import postgres, rabbitmq
from tests.support.servers.errors import ServerFailedError
from tests.support.servers.private import until_answered

_PING_SECONDS = 60


def docker_answers() -> bool:
    """Tell whether a Docker daemon answers within a minute; a busy one is slow to."""
    try:
        return bool(DockerClient(timeout=_PING_SECONDS).client.ping())
    except (DockerException, OSError):
        return False


@dataclass(frozen=True)
class ContainerServer:
    """A server in a container. `login` is the URL up to the host; `probe` logs in or raises `OSError`."""

    container: DockerContainer
    port: int
    login: str
    probe: Callable[[str], Awaitable[None]]

    @property
    def url(self) -> str:
        return f"{self.login}@{self.container.get_container_host_ip()}:{self.container.get_exposed_port(self.port)}/"

    @property
    def description(self) -> str:
        return f"container of {self.container.image}"

    async def start(self) -> None:
        """Start the container and wait until the server in it answers; raise `ServerFailedError` if it does not."""
        try:
            await asyncio.to_thread(self.container.start)
            await until_answered(lambda: self.probe(self.url), lambda: None)
        except (DockerException, OSError) as error:
            raise ServerFailedError(f"{self.description}: {error!r}") from error

    def close(self) -> None:
        """Remove the container and its volumes."""
        self.container.stop()


def rabbit_container() -> ContainerServer:
    """Prepare RabbitMQ 4, with messages allowed that are as large as the private instance allows."""
    password = secrets.token_hex(16)
    limit = f"-rabbit max_message_size {rabbitmq.MAX_MESSAGE_SIZE}"
    environment = {
        "RABBITMQ_DEFAULT_USER": "promgithub",
        "RABBITMQ_DEFAULT_PASS": password,
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": limit,
    }
    container = DockerContainer("rabbitmq:4", env=environment, ports=[5672])
    return ContainerServer(container, 5672, f"amqp://promgithub:{password}", rabbitmq.probe)


def postgres_container() -> ContainerServer:
    """Prepare PostgreSQL 17."""
    password = secrets.token_hex(16)
    container = DockerContainer("postgres:17", env={"POSTGRES_PASSWORD": password}, ports=[5432])
    return ContainerServer(container, 5432, f"postgresql://postgres:{password}", postgres.probe)
