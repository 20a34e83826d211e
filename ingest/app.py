"""The receiver as a process: what it is made of, how it starts and how it stops."""

import asyncio
from collections.abc import Mapping

from prometheus_client import CollectorRegistry

from ingest.intake import Intake
from ingest.listener import Listener
from ingest.secrets import Secrets
from ingest.webhook import PATH, Webhook
from shared.admin import AdminServer, Check
from shared.broker import Broker
from shared.errors import BrokerUnavailable
from shared.logs import get_logger
from shared.process import serve
from shared.settings import IngestSettings
from shared.spool import SpoolBroker

_log = get_logger(__name__)


class Receiver:
    """Everything of one receiver."""

    def __init__(self, settings: IngestSettings, broker: Broker, spool: SpoolBroker | None = None) -> None:
        """`broker`, and `spool` for when that takes nothing, are started and closed by `run`.

        Raises `SettingsError` if there is no secret.
        """
        self._settings = settings
        self._intake = Intake(broker, spool)
        secret = settings.webhook_secret
        self._secrets = Secrets(secret.get_secret_value() if secret else None, settings.webhook_secret_file)
        self._webhook = Webhook(self._intake, self._secrets, settings.max_in_flight)
        self.metrics = self._webhook.metrics
        self.metrics.spool = self._intake.figures
        self.checks: Mapping[str, Check] = {"broker" if spool is None else "broker_or_spool": self._check_intake}

    async def run(self, stop: asyncio.Event) -> None:
        """Be a process of its own until `stop` is set. Raises `SettingsError` if an address cannot be had."""
        settings = self._settings
        admin = AdminServer(settings.admin_host, settings.admin_port, self.gather, self.checks)
        await serve(admin, self._intake, stop, self.receive, self._intake.forward)

    async def receive(self, stop: asyncio.Event) -> None:
        """Receive until `stop` is set, then answer what is in flight. Raises `SettingsError` if the port is taken."""
        settings = self._settings
        listener = Listener(self._webhook, settings.service_host, settings.service_port)
        await listener.start()
        _log.info(
            "receiver started",
            webhook=f"http://{settings.service_host}:{settings.service_port}{PATH}",
            metrics=f"http://{settings.admin_host}:{settings.admin_port}/metrics",
            secrets=len(self._secrets.current()),
        )
        try:
            await stop.wait()
        finally:
            await listener.close()
        _log.info("receiver stopped")

    async def gather(self) -> CollectorRegistry:
        """Return the metrics of the receiver."""
        return self.metrics.registry

    async def _check_intake(self) -> None:
        # With a spool, a receiver is wanted most while the broker is away.
        if not self._intake.available:
            raise BrokerUnavailable("no connection, or blocked by an alarm")
