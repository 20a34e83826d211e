"""The page at `/` of the receiver's admin port: what this is, whether it is ready, and what it has received."""

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from importlib.metadata import version

from aiohttp import web

from shared.admin.health import OK, Check, states
from shared.admin.html import Pages
from shared.admin.instants import instant


class ReceiverPage:
    """Renders the page."""

    def __init__(
        self, taken: Callable[[], Awaitable[Mapping[str, float]]], checks: Mapping[str, Check], webhook: str
    ) -> None:
        """`taken` returns when the receiver last took a delivery of each event (Unix seconds).

        `webhook` is the URL to which GitHub sends, as this process knows it.
        """
        self._taken = taken
        self._checks = checks
        self._webhook = webhook
        self._pages = Pages("ingest")

    async def page(self, _request: web.Request) -> web.StreamResponse:
        """Answer with the page."""
        found = await states(self._checks)
        taken = await self._taken()
        page = self._pages.render(
            "receiver.html.j2",
            version=version("promgithub"),
            checks=found,
            ok=OK,
            webhook=self._webhook,
            taken={event: datetime.fromtimestamp(at, UTC) for event, at in sorted(taken.items())},
            now=datetime.now(UTC),
            instant=instant,
        )
        return self._pages.response(page)
