"""The status as JSON below `/api/v1/`."""

from collections.abc import Awaitable, Callable
from functools import partial

import msgspec
from aiohttp import web

from processor.status.cache import Known
from processor.status.endpoints import FAILURES, INSIGHTS, OPEN, PIPELINE, Endpoint
from processor.status.queries import Query, QueryError, parse
from processor.status.service import StatusService
from processor.status.views import Problem, View
from shared.admin.server import Routes

_NOT_CACHED = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}

_Ask = Callable[[Query], Awaitable[Known[View]]]


def api_routes(service: StatusService) -> Routes:
    """Return the handler of each path."""

    async def pipeline(_query: Query) -> Known[View]:
        return Known(await service.pipeline())

    asked: dict[Endpoint, _Ask] = {
        OPEN: service.open,  # type: ignore[dict-item]
        FAILURES: service.failures,  # type: ignore[dict-item]
        INSIGHTS: service.insights,  # type: ignore[dict-item]
        PIPELINE: pipeline,
    }
    return {endpoint.path: partial(_answer, endpoint, ask) for endpoint, ask in asked.items()}


async def _answer(endpoint: Endpoint, ask: _Ask, request: web.Request) -> web.StreamResponse:
    """Answer 200, 400 for a wrong parameter, or 503 if the store cannot be read."""
    try:
        query = parse(request.query, endpoint.parameters)
    except QueryError as error:
        return _json(Problem(error=str(error)), 400)
    known = await ask(query)
    if known.value is None or known.trouble:
        return _json(Problem(error=f"the store cannot be read: {known.trouble}"), 503)
    return _json(known.value, 200)


def _json(value: View, status: int) -> web.Response:
    body = msgspec.json.encode(value)
    return web.Response(body=body, status=status, content_type="application/json", headers=_NOT_CACHED)
