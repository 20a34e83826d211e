"""The page at `/` of the receiver's admin port: what this is, whether it is ready, and what it has received."""

from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version

from aiohttp import web

from ingest.receiver_metrics import ReceiverMetrics
from shared.admin.health import OK, Check, states
from shared.admin.html import Pages
from shared.admin.instants import instant


class ReceiverPage:
    """Renders the page."""

    def __init__(self, metrics: ReceiverMetrics, checks: Mapping[str, Check], webhook: str) -> None:
        """`webhook` is the URL to which GitHub sends, as this process knows it."""
        self._metrics = metrics
        self._checks = checks
        self._webhook = webhook
        self._pages = Pages("ingest")

    async def page(self, _request: web.Request) -> web.StreamResponse:
        """Answer with the page."""
        found = await states(self._checks)
        page = self._pages.render(
            "receiver.html.j2",
            version=version("promgithub"),
            checks=found,
            ok=OK,
            webhook=self._webhook,
            taken={event: datetime.fromtimestamp(at, UTC) for event, at in sorted(self._metrics.last_taken.items())},
            now=datetime.now(UTC),
            instant=instant,
        )
        return self._pages.response(page)
