"""The receiver as a process: what it is made of, how it starts and how it stops."""

import asyncio
from collections.abc import Mapping

from prometheus_client import CollectorRegistry

from ingest.listener import Listener
from ingest.secrets import Secrets
from ingest.webhook import PATH, Webhook
from shared.admin import AdminServer, Check
from shared.broker import Broker
from shared.errors import BrokerUnavailable
from shared.logs import get_logger
from shared.process import serve
from shared.settings import IngestSettings

_log = get_logger(__name__)


class Receiver:
    """Everything of one receiver."""

    def __init__(self, settings: IngestSettings, broker: Broker) -> None:
        """`broker` is started and closed by `run`. Raises `SettingsError` if there is no secret."""
        self._settings = settings
        self._broker = broker
        secret = settings.webhook_secret
        self._secrets = Secrets(secret.get_secret_value() if secret else None, settings.webhook_secret_file)
        self._webhook = Webhook(broker, self._secrets, settings.max_in_flight)
        self.metrics = self._webhook.metrics
        self.checks: Mapping[str, Check] = {"broker": self._check_broker}

    async def run(self, stop: asyncio.Event) -> None:
        """Be a process of its own until `stop` is set. Raises `SettingsError` if an address cannot be had."""
        settings = self._settings
        admin = AdminServer(settings.admin_host, settings.admin_port, self.gather, self.checks)
        await serve(admin, self._broker, stop, self.receive)

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

    async def _check_broker(self) -> None:
        if not self._broker.available:
            raise BrokerUnavailable("no connection, or blocked by an alarm")
