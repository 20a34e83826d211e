"""The OpenAPI document is valid, and complete."""

from openapi_spec_validator import OpenAPIV31SpecValidator, validate

from processor.status.endpoints import ENDPOINTS
from processor.status.views import Failure
from promgithub.openapi import openapi


def test_it_is_valid_openapi() -> None:
    validate(openapi(), cls=OpenAPIV31SpecValidator)


def test_it_has_every_endpoint_with_its_parameters() -> None:
    paths = openapi()["paths"]
    described = {path: [one["name"] for one in item["get"]["parameters"]] for path, item in paths.items()}
    assert described == {endpoint.path: list(endpoint.parameters) for endpoint in ENDPOINTS}


def test_times_and_identifiers_say_their_format() -> None:
    fields = openapi()["components"]["schemas"][Failure.__name__]["properties"]
    assert fields["failed_at"] == {"type": "string", "format": "date-time"}
    assert fields["run_id"] == {"type": "integer", "format": "int64"}
