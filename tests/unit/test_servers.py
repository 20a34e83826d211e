"""The choice of the servers for the tests, and the error messages without servers."""

from collections.abc import Callable, Mapping

import pytest

from tests.support.servers.discovery import (
    AMQP_VARIABLE,
    DATABASE_VARIABLE,
    Server,
    find_postgres,
    find_rabbit,
    start_all,
)
from tests.support.servers.errors import MissingServerError, ServerFailedError
from tests.support.servers.ports import free_port


def test_a_given_url_is_used_whatever_is_installed() -> None:
    environment = {AMQP_VARIABLE: "amqp://broker.example/", DATABASE_VARIABLE: "postgresql://database.example/"}

    assert find_rabbit(environment).url == "amqp://broker.example/"
    assert find_postgres(environment).url == "postgresql://database.example/"


def test_a_description_names_the_variable_and_the_address_but_no_password() -> None:
    description = find_rabbit({AMQP_VARIABLE: "amqp://user:s3cret@broker.example:5673/"}).description

    assert AMQP_VARIABLE in description
    assert "broker.example:5673" in description
    assert "s3cret" not in description


@pytest.mark.parametrize(
    ("find", "variable", "scheme"),
    [(find_rabbit, AMQP_VARIABLE, "amqp"), (find_postgres, DATABASE_VARIABLE, "postgresql")],
)
async def test_a_given_server_that_does_not_answer_fails_the_session_by_its_variable(
    find: Callable[[Mapping[str, str]], Server], variable: str, scheme: str
) -> None:
    server = find({variable: f"{scheme}://user:s3cret@127.0.0.1:{free_port()}/"})

    with pytest.raises(ServerFailedError, match=variable) as failure:
        await server.start()
    assert "s3cret" not in str(failure.value)


async def test_all_that_is_missing_is_said_at_once() -> None:
    def no_rabbit(_: Mapping[str, str]) -> Server:
        raise MissingServerError("no rabbit here")

    def no_postgres(_: Mapping[str, str]) -> Server:
        raise MissingServerError("no postgres here")

    with pytest.raises(MissingServerError, match=r"no rabbit here\nno postgres here"):
        await start_all([no_rabbit, no_postgres], {})


def test_a_port_is_handed_out_once() -> None:
    ports = [free_port() for _ in range(50)]

    assert len(set(ports)) == len(ports)
