"""The receiver as a process: its listeners, how it starts and how it stops."""

import asyncio

from aiohttp import web
from aiohttp.typedefs import Handler
from prometheus_client import CollectorRegistry

from ingest.metrics import ReceiverMetrics
from ingest.secrets import Secrets
from ingest.validation import MAX_BODY
from ingest.webhook import Answer, Webhook, respond
from shared.admin import AdminServer, listen
from shared.broker import Broker
from shared.errors import BrokerUnavailable, SettingsError
from shared.logs import get_logger
from shared.settings import IngestSettings

SHUTDOWN_TIMEOUT = 20.0
"""Seconds that requests in flight have to finish after SIGTERM."""

_log = get_logger(__name__)


class Receiver:
    """Everything of one receiver."""

    def __init__(self, settings: IngestSettings, broker: Broker) -> None:
        """`broker` is started and closed here."""
        self._settings = settings
        self._broker = broker
        secret = settings.webhook_secret
        self._secrets = Secrets(secret.get_secret_value() if secret else None, settings.webhook_secret_file)
        self._metrics = ReceiverMetrics(broker)
        webhook = Webhook(broker, self._secrets, self._metrics, settings.max_in_flight)
        # The signature covers the bytes as sent, so nothing may decompress them on the way.
        self._runner = web.AppRunner(
            self._application(webhook),
            access_log=None,
            auto_decompress=False,
            shutdown_timeout=SHUTDOWN_TIMEOUT,
        )
        self._admin = AdminServer(
            settings.admin_host, settings.admin_port, self._gather, {"broker": self._check_broker}
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Receive until `stop` is set, then answer what is in flight. Raises `SettingsError` if it cannot start."""
        secrets = len(self._secrets.current())
        if not secrets:
            raise SettingsError("PROMGITHUB_WEBHOOK_SECRET_FILE: holds no secret; takes one a line")
        await self._admin.start()
        await self._broker.start()
        try:
            await listen(
                self._runner, self._settings.service_host, self._settings.service_port, "PROMGITHUB_SERVICE_PORT"
            )
            _log.info(
                "receiver started",
                webhook=f"http://{self._settings.service_host}:{self._settings.service_port}/webhook",
                admin=f"{self._settings.admin_host}:{self._settings.admin_port}",
                queue=self._settings.queue_name,
                secrets=secrets,
            )
            await stop.wait()
            self._admin.drain()
            await self._runner.cleanup()
        finally:
            await self._admin.close()
            await self._broker.close()
        _log.info("receiver stopped")

    def _application(self, webhook: Webhook) -> web.Application:
        application = web.Application(client_max_size=MAX_BODY, middlewares=[self._json_errors])
        application.add_routes([web.post("/webhook", webhook.handle)])
        return application

    @web.middleware
    async def _json_errors(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer other paths and methods in JSON too, and count them."""
        try:
            return await handler(request)
        except (web.HTTPNotFound, web.HTTPMethodNotAllowed) as error:
            self._metrics.answered(request.headers.get("X-GitHub-Event", ""), "unsupported")
            response = respond(Answer(error.status, "unsupported", {"error": "only POST /webhook is accepted"}))
            if isinstance(error, web.HTTPMethodNotAllowed):
                response.headers["Allow"] = "POST"
            return response

    async def _gather(self) -> CollectorRegistry:
        return self._metrics.registry

    async def _check_broker(self) -> None:
        if not self._broker.available:
            raise BrokerUnavailable("no connection, or blocked by an alarm")
