"""The receiver as a process: what it is made of, how it starts and how it stops."""

import asyncio

from prometheus_client import CollectorRegistry

from ingest.listener import Listener
from ingest.secrets import Secrets
from ingest.webhook import PATH, Webhook
from shared.admin import AdminServer
from shared.broker import Broker
from shared.errors import BrokerUnavailable
from shared.logs import get_logger
from shared.settings import IngestSettings

_log = get_logger(__name__)


class Receiver:
    """Everything of one receiver."""

    def __init__(self, settings: IngestSettings, broker: Broker) -> None:
        """`broker` is started and closed here. Raises `SettingsError` if there is no secret."""
        self._settings = settings
        self._broker = broker
        secret = settings.webhook_secret
        self._secrets = Secrets(secret.get_secret_value() if secret else None, settings.webhook_secret_file)
        self._webhook = Webhook(broker, self._secrets, settings.max_in_flight)
        self._admin = AdminServer(
            settings.admin_host, settings.admin_port, self._gather, {"broker": self._check_broker}
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Receive until `stop` is set, then answer what is in flight, within 25 s.

        The broker need not be there yet. Raises `SettingsError` if an address cannot be had.
        """
        settings = self._settings
        listener = Listener(self._webhook, settings.service_host, settings.service_port)
        try:
            await self._admin.start()
            await self._broker.start()
            await listener.start()
            _log.info(
                "receiver started",
                webhook=f"http://{settings.service_host}:{settings.service_port}{PATH}",
                admin=f"{settings.admin_host}:{settings.admin_port}",
                queue=settings.queue_name,
                secrets=len(self._secrets.current()),
            )
            await stop.wait()
            self._admin.drain()
            await listener.close()
        finally:
            await self._admin.close()
            await self._broker.close()
        _log.info("receiver stopped")

    async def _gather(self) -> CollectorRegistry:
        return self._webhook.metrics.registry

    async def _check_broker(self) -> None:
        if not self._broker.available:
            raise BrokerUnavailable("no connection, or blocked by an alarm")
