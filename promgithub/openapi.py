"""The API of the status page as an OpenAPI document, made from its endpoints, parameters and views.

`make docs` writes it to `docs/openapi.json`.
"""

import json
from importlib.metadata import version
from inspect import cleandoc
from typing import Any

import msgspec

from processor.status.endpoints import ENDPOINTS, Endpoint
from processor.status.queries import PARAMETERS, Query
from processor.status.views import Pipeline, Problem, View

_REFERENCE = "#/components/schemas/{name}"

_DESCRIPTION = """\
What is open, what failed, the last day or week, and the health of promgithub, as the status page shows it.

The admin port of every processor and of standalone serves it, unless PROMGITHUB_STATUS_PAGE is false. It has no \
authentication. Times are UTC, durations are seconds, costs are US dollars. Answers from the database are at most some \
seconds old; `as_of` is their time. A later release may add fields and parameters."""

_REFUSED = "A parameter does not exist, or its value is not accepted."
_AWAY = "The database cannot be read now."


def openapi() -> dict[str, Any]:
    """Return the document."""
    views = [*(endpoint.view for endpoint in ENDPOINTS), Problem]
    _, schemas = msgspec.json.schema_components(views, ref_template=_REFERENCE)
    for schema in schemas.values():
        schema["description"] = cleandoc(schema["description"])
        schema["required"] = list(schema["properties"])  # answers have every field, also those with defaults
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "promgithub",
            "summary": "The status of CI as JSON.",
            "description": _DESCRIPTION,
            "version": version("promgithub"),
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [
            {"url": "http://localhost:8082", "description": "promgithub processor"},
            {"url": "http://localhost:8081", "description": "promgithub standalone"},
        ],
        "paths": {endpoint.path: {"get": _operation(endpoint)} for endpoint in ENDPOINTS},
        "components": {"schemas": schemas},
    }


def openapi_json() -> str:
    """Return the document as text."""
    return json.dumps(openapi(), indent=2, ensure_ascii=False) + "\n"


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    answers = {"200": _answer(endpoint.summary, endpoint.view), "400": _answer(_REFUSED, Problem)}
    if endpoint.view is not Pipeline:  # which needs no database
        answers["503"] = _answer(_AWAY, Problem)
    return {
        "operationId": endpoint.name,
        "summary": endpoint.summary,
        "parameters": [_parameter(name) for name in endpoint.parameters],
        "responses": answers,
    }


def _parameter(name: str) -> dict[str, Any]:
    parameter = PARAMETERS[name]
    default = getattr(Query(), parameter.field)
    schema = {**parameter.schema, **({} if default is None else {"default": default})}
    description = f"{parameter.meaning.capitalize()}: {parameter.takes}."
    return {"name": name, "in": "query", "description": description, "schema": schema}


def _answer(meaning: str, view: type[View]) -> dict[str, Any]:
    schema = {"$ref": _REFERENCE.format(name=view.__name__)}
    return {"description": meaning, "content": {"application/json": {"schema": schema}}}
