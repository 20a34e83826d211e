"""The test servers: a killed server restarts with its data, and no files or processes remain."""

import asyncio
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import aio_pika
import asyncpg
import pytest
from aio_pika.abc import HeadersType
from aio_pika.exceptions import ChannelNotFoundEntity

from tests.support.servers.postgres import PostgresServer, fresh_database
from tests.support.servers.rabbitmq import QUEUE_SETTLED_SECONDS, RabbitServer, remove_queue

QUORUM: HeadersType = {"x-queue-type": "quorum"}


async def test_a_killed_rabbit_comes_back_on_its_port_with_what_it_confirmed(private_rabbit: RabbitServer) -> None:
    async with await aio_pika.connect(private_rabbit.url) as connection:
        channel = await connection.channel(publisher_confirms=True)
        await channel.declare_queue("kept", durable=True, arguments=QUORUM)
        message = aio_pika.Message(b"kept", delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        await channel.default_exchange.publish(message, routing_key="kept")
        await asyncio.sleep(QUEUE_SETTLED_SECONDS)
        await private_rabbit.kill()

    await private_rabbit.start()

    async with await aio_pika.connect(private_rabbit.url) as connection:
        queue = await (await connection.channel()).get_queue("kept")
        kept = await queue.get(no_ack=True, timeout=5)
    assert kept is not None
    assert kept.body == b"kept"


async def test_a_rabbit_takes_commands_and_refuses_connections_once_stopped(private_rabbit: RabbitServer) -> None:
    assert await private_rabbit.ctl("eval", "rabbit:is_running().") == "true\n"

    await private_rabbit.stop()

    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", private_rabbit.port)


async def test_a_killed_postgres_comes_back_on_its_port_with_what_it_committed(
    private_postgres: PostgresServer,
) -> None:
    async with fresh_database(private_postgres.url) as url:
        connection = await asyncpg.connect(url)
        await connection.execute("CREATE TABLE kept AS SELECT 7 AS value")
        await private_postgres.kill()

        await private_postgres.start()

        connection = await asyncpg.connect(url)
        assert await connection.fetchval("SELECT value FROM kept") == 7
        await connection.close()


async def test_a_stopped_postgres_refuses_connections_until_it_is_started(private_postgres: PostgresServer) -> None:
    await private_postgres.stop()
    with pytest.raises(ConnectionRefusedError):
        await asyncpg.connect(private_postgres.url)

    await private_postgres.start()

    await (await asyncpg.connect(private_postgres.url)).close()


async def test_private_servers_listen_on_nothing_but_loopback(private_postgres: PostgresServer) -> None:
    # What listens on all addresses answers on every loopback address.
    with pytest.raises(OSError):  # noqa: PT011 - refused on Linux, unreachable elsewhere
        await asyncio.wait_for(asyncio.open_connection("127.0.0.2", private_postgres.port), 5)


async def test_a_database_is_dropped_although_somebody_is_connected_to_it(postgres_url: str) -> None:
    async with fresh_database(postgres_url) as url:
        connection = await asyncpg.connect(url)
        assert await connection.fetchval("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == 0

    with pytest.raises(asyncpg.InvalidCatalogNameError):
        await asyncpg.connect(url)


async def test_a_queue_is_removed_with_its_dead_letters_and_its_exchange(amqp_url: str, queue_name: str) -> None:
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()
        await channel.declare_exchange(queue_name, durable=True)
        for queue in (queue_name, f"{queue_name}.dead"):
            await channel.declare_queue(queue, durable=True, arguments=QUORUM)

        await remove_queue(amqp_url, queue_name)

        for queue in (queue_name, f"{queue_name}.dead"):
            with pytest.raises(ChannelNotFoundEntity):
                await (await connection.channel()).declare_queue(queue, passive=True)
        with pytest.raises(ChannelNotFoundEntity):
            await (await connection.channel()).get_exchange(queue_name)


# How a session may end, and whether the server's files stay. Only on Linux is a server told that its session is dead.
ENDINGS = [("raise SystemExit(1)", False)]
if sys.platform == "linux":
    ENDINGS.append(("os.kill(os.getpid(), signal.SIGKILL)", True))

SESSION = """
import asyncio, os, signal
from tests.support.servers.postgres import PostgresServer
server = PostgresServer()
asyncio.run(server.start())
print(server.port, server.directory, flush=True)
{ending}
"""


@pytest.mark.parametrize(("ending", "files_stay"), ENDINGS)
def test_a_server_ends_with_a_session_that_does_not_close_it(ending: str, files_stay: bool) -> None:
    root = Path(__file__).parents[2]
    script = [sys.executable, "-c", SESSION.format(ending=ending)]
    session = subprocess.run(script, cwd=root, stdout=subprocess.PIPE, text=True, timeout=60, check=False)

    port, directory = session.stdout.split()
    assert _is_refused_within(10, int(port))
    assert Path(directory).exists() is files_stay
    shutil.rmtree(directory, ignore_errors=True)


def _is_refused_within(seconds: float, port: int) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except ConnectionRefusedError:
            return True
        time.sleep(0.05)
    return False
