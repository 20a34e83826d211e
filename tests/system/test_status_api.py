"""What the API answers is what its OpenAPI document says: every endpoint with every parameter."""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from openapi_schema_validator import OAS31Validator, oas31_format_checker
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from promgithub.openapi import openapi
from promgithub.simulation.histories import Historian
from tests.support.github import SECRET, GitHub, until
from tests.support.processes import Launcher, Process
from tests.support.servers.postgres import PostgresServer, fresh_database

Start = Callable[..., Process]
Json = Mapping[str, Any]

EXAMPLES = {"repository": "acme/gears", "class": "ubuntu-latest", "older": "1s"}
"""Values of the parameters for which the document has neither a list nor a range."""

DOCUMENT = openapi()
for view in DOCUMENT["components"]["schemas"].values():
    view["additionalProperties"] = False  # a field that the document does not have is a mistake in it

_REGISTRY: Registry[Any] = Registry().with_resource("urn:api", DRAFT202012.create_resource(DOCUMENT))


def accepted(parameter: Json) -> list[str]:
    """Return values that the schema of a parameter accepts, at its limits if it has some."""
    schema = parameter["schema"]
    if "enum" in schema:
        return [str(value) for value in schema["enum"]]
    if "minimum" in schema:
        return [str(schema["minimum"]), str(schema["maximum"])]
    return [EXAMPLES[parameter["name"]]]


def refused(parameter: Json) -> list[str]:
    """Return values that the schema of a parameter does not accept."""
    schema = parameter["schema"]
    if "minimum" in schema:
        return [str(schema["minimum"] - 1), str(schema["maximum"] + 1), "many"]
    return ["nonsense"] if "enum" in schema or "pattern" in schema else []


def requests() -> Iterator[tuple[str, dict[str, str], int]]:
    """Yield paths, parameters and the status of the answer."""
    every = {one["name"] for item in DOCUMENT["paths"].values() for one in item["get"]["parameters"]}
    for path, item in DOCUMENT["paths"].items():
        own = {one["name"]: one for one in item["get"]["parameters"]}
        yield path, {}, 200
        yield path, {"nonsense": "1"}, 400
        for name in every - own.keys():
            yield path, {name: "1"}, 400
        for name, parameter in own.items():
            for value in accepted(parameter):
                yield path, {name: value}, 200
            for value in refused(parameter):
                yield path, {name: value}, 400


async def check(client: aiohttp.ClientSession, process: Process, path: str, given: Json, status: int) -> Any:
    """Ask for a path, and hold the answer to the document; return it."""
    async with client.get(process.admin_url + path, params=dict(given)) as answer:
        assert (answer.status, answer.content_type) == (status, "application/json"), (path, given)
        body = await answer.json()
    pointer = f"#/paths/{path.replace('/', '~1')}/get/responses/{status}/content/application~1json/schema"
    validator = OAS31Validator({"$ref": f"urn:api{pointer}"}, registry=_REGISTRY, format_checker=oas31_format_checker)
    wrong = [f"{error.json_path}: {error.message}" for error in validator.iter_errors(body)]
    assert not wrong, (path, given)
    return body


@pytest_asyncio.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
def standalone(launcher: Launcher, tmp_path: Path) -> Process:
    """Give a standalone promgithub that is starting."""
    return launcher.start("standalone", "--data-dir", str(tmp_path / "data"), WEBHOOK_SECRET=SECRET)


async def test_every_answer_is_as_documented(
    standalone: Process, github: GitHub, client: aiohttp.ClientSession
) -> None:
    await standalone.ready()
    truth = Historian(31).history(560)
    await github.send_all(standalone, truth.deliveries)
    await github.drained(standalone, processed=len(truth.deliveries))
    found = {}
    for path, given, status in requests():
        answer = await check(client, standalone, path, given, status)
        if not given:
            found[path.rpartition("/")[2]] = answer
    assert all(found["open"][part] for part in ("by_class", "jobs", "runs"))
    assert found["failures"]["failures"]
    assert all(found["insights"][part] for part in ("by_class", "by_workflow", "steps"))
    assert found["pipeline"]["events"]
    defaults = {one["name"]: one["schema"].get("default") for one in _parameters("open")}
    assert {name: found["open"][name] for name in ("limit", "offset")} == {
        name: defaults[name] for name in ("limit", "offset")
    }


def _parameters(name: str) -> list[Json]:
    operations = [item["get"] for item in DOCUMENT["paths"].values()]
    (parameters,) = (one["parameters"] for one in operations if one["operationId"] == name)
    return list(parameters)


async def test_without_a_database_the_answer_is_503_as_documented(
    private_postgres: PostgresServer, start_processor: Start, client: aiohttp.ClientSession
) -> None:
    async with fresh_database(private_postgres.url) as url:
        processor = start_processor(DATABASE_URL=url)
        await processor.ready()
        await private_postgres.stop()
        try:
            for path, item in DOCUMENT["paths"].items():
                if "503" in item["get"]["responses"]:
                    problem = await check(client, processor, path, {}, 503)
                    assert problem["error"].startswith("the store cannot be read: ")

            async def known() -> bool | None:
                health = await check(client, processor, "/api/v1/pipeline", {}, 200)
                return not health["database_up"] or None

            await until(known, 20)
            await processor.terminate()
        finally:
            await private_postgres.start()
