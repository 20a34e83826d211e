"""The status page."""

import asyncio
from dataclasses import replace
from functools import cache, partial
from typing import Any
from urllib.parse import urlencode

from aiohttp import web

from processor.counting.states import Phase
from processor.status import texts
from processor.status.cache import Cache
from processor.status.charts import bars
from processor.status.endpoints import ENDPOINTS
from processor.status.insights import WINDOWS
from processor.status.queries import Query, QueryError, parameters_of, parse
from processor.status.service import StatusService
from processor.status.trends import trends
from shared.admin.html import Pages
from shared.settings import format_duration

PARAMETERS = ("repository", "class", "phase", "older", "sort", "window", "limit", "offset")
"""The parameters of the page."""

PAGE_SECONDS = 5.0
"""How long a page is sent to everybody who requests it, in seconds."""

PART_HEADER = "X-Promgithub-Part"
"""The header with which `page.js` requests only what it replaces, every 10 seconds."""

ROWS = 20
"""Number of rows of each list, unless the URL says otherwise."""

WORKFLOWS_LISTED = 30
"""Maximum number of workflows on the page."""

_SORTS = (
    ("age", "oldest first"),
    ("-age", "newest first"),
    ("repository", "repository"),
    ("workflow", "workflow"),
    ("runner_class", "runner class"),
)


class StatusPage:
    """Renders the page."""

    def __init__(self, service: StatusService, receiver: str) -> None:
        """`receiver` is the URL of the receiver's public port, for the user of an empty installation."""
        self._service = service
        self._receiver = receiver
        self._pages = Pages("processor.status", "page.js")
        self._rendered = Cache(PAGE_SECONDS)

    async def page(self, request: web.Request) -> web.StreamResponse:
        """Answer with the page, or 400 for a wrong parameter."""
        try:
            query = parse(request.query, PARAMETERS, Query(limit=ROWS))
        except QueryError as error:
            return self._pages.response(self._pages.render("wrong.html.j2", error=str(error)), 400)
        template = "live.html.j2" if PART_HEADER in request.headers else "status.html.j2"
        key = template, query, request.host
        rendered = await self._rendered.get(key, lambda: self._render(template, query, request.host))
        return self._pages.response(rendered.value or b"")

    async def _render(self, template: str, query: Query, host: str) -> bytes:
        chosen = Query(repository=query.repository, runner_class=query.runner_class)
        opened, failures, insights, pipeline = await asyncio.gather(
            self._service.open(replace(query, window=Query().window)),
            self._service.failures(replace(chosen, limit=query.limit)),
            self._service.insights(replace(chosen, window=query.window)),
            self._service.pipeline(),
        )
        # In a thread: the first page compiles its template, and a page may have many rows.
        return await asyncio.to_thread(
            self._pages.render,
            template,
            query=query,
            filtered=bool(query.repository or query.runner_class or query.phase or query.older),
            open=opened,
            failures=failures,
            insights=insights,
            workflows=insights.value.by_workflow[:WORKFLOWS_LISTED] if insights.value else (),
            trends=trends(insights.value) if insights.value else (),
            bars=bars,
            pipeline=pipeline,
            window_title=texts.WINDOW_TITLES[query.window],
            step_name=texts.STEP_NAMES[query.window],
            in_a_row=texts.in_a_row,
            windows=tuple(WINDOWS),
            phases=[phase.value for phase in Phase],
            phase_names=texts.PHASE_NAMES,
            sorts=_SORTS,
            older=format_duration(query.older) if query.older else "",
            receiver=self._receiver,
            metrics_at=f"http://{host}",
            api=ENDPOINTS,
            link=cache(partial(_link, query)),
            duration=texts.duration,
            instant=texts.instant_or_dash,
            ratio=texts.ratio,
            dollars=texts.dollars,
            number=texts.number,
            size=texts.size,
        )


def _link(query: Query, **changed: Any) -> str:
    """Return the address of the same view with some changes."""
    parameters = urlencode(parameters_of(replace(query, **changed), Query(limit=ROWS)))
    return f"/?{parameters}" if parameters else "/"
