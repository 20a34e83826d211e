"""The receiver as a process: its parts, its start and its stop."""

import asyncio
from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry

from ingest.intake import Intake
from ingest.listener import Listener
from ingest.page import ReceiverPage
from ingest.secrets import Secrets
from ingest.webhook import PATH, Webhook
from shared.admin.health import Check
from shared.admin.server import AdminServer, standard_routes
from shared.brokers.interface import PublishingBroker
from shared.brokers.spool import SpoolBroker
from shared.errors import BrokerUnavailable, ReceiverError
from shared.logs import get_logger
from shared.process import Start, serve
from shared.settings import IngestSettings

_log = get_logger(__name__)


class Receiver:
    """A receiver process."""

    def __init__(
        self,
        settings: IngestSettings,
        broker: PublishingBroker,
        spool: SpoolBroker | None = None,
        *,
        counted: Iterable[str],
    ) -> None:
        """`run` starts and closes `broker` and `spool`; `spool` takes deliveries while `broker` takes none.

        `counted` are the events that the processor counts: their series on `/metrics` begin at 0. The receiver accepts
        any other event too. Raises `SettingsError` if there is no secret.
        """
        self._settings = settings
        self._intake = Intake(broker, spool)
        secret = settings.webhook_secret
        self._secrets = Secrets(secret.get_secret_value() if secret else None, settings.webhook_secret_file)
        self._webhook = Webhook(self._intake, self._secrets, settings.max_in_flight, counted)
        self.metrics = self._webhook.metrics
        self._listening = False
        self.checks: Mapping[str, Check] = {
            "listener": self._check_listener,
            "broker" if spool is None else "broker_or_spool": self._check_intake,
        }
        self._url = webhook_url(settings)

    async def run(self, stop: asyncio.Event) -> None:
        """Run as a separate process until `stop` is set. Raises `SettingsError` if an address cannot be used."""
        settings = self._settings
        page = ReceiverPage(self._taken, self.checks, self._url)
        routes = standard_routes(self.gather, self.checks, stop) | {"/": page.page}
        admin = AdminServer(settings.admin_host, settings.admin_port, routes)
        start = Start(self.checks, self.say_started)
        await serve(admin, self._intake, stop, start, self.receive, self._intake.forward)

    def say_started(self) -> None:
        """Log that the receiver is ready, and its addresses."""
        settings = self._settings
        _log.info(
            "receiver started",
            webhook=self._url,
            metrics=f"http://{settings.admin_host}:{settings.admin_port}/metrics",
            secrets=len(self._secrets.current()),
        )

    async def receive(self, stop: asyncio.Event, say_listening: Callable[[], None] = lambda: None) -> None:
        """Receive until `stop` is set, then finish the requests in progress. Calls `say_listening` once it listens.

        Raises `SettingsError` if the port is in use.
        """
        settings = self._settings
        listener = Listener(self._webhook, settings.service_host, settings.service_port)
        await listener.start()
        self._listening = True
        say_listening()
        try:
            await stop.wait()
        finally:
            await listener.close()
        _log.info("receiver stopped")

    async def gather(self, *, openmetrics: bool) -> CollectorRegistry:
        """Return the metrics of the receiver."""
        return self.metrics.registry

    async def _taken(self) -> Mapping[str, float]:
        return self.metrics.last_taken

    async def _check_listener(self) -> None:
        if not self._listening:
            raise ReceiverError("the public port is not open yet")

    async def _check_intake(self) -> None:
        # With a spool, the receiver stays ready while the broker is down.
        if not self._intake.available:
            raise BrokerUnavailable(self._intake.trouble)


def webhook_url(settings: IngestSettings) -> str:
    """Return the URL to which GitHub sends, as this process knows it."""
    return f"http://{settings.service_host}:{settings.service_port}{PATH}"
