"""The ceiling of the receiver: an aiohttp handler that reads the body, checks its HMAC and answers."""

import asyncio
import hmac
import os

import uvloop
from aiohttp import web

from bench.orders import SECRET

_SECRET = SECRET.encode()


async def _webhook(request: web.Request) -> web.Response:
    body = await request.read()
    expected = f"sha256={hmac.digest(_SECRET, body, 'sha256').hex()}"
    good = hmac.compare_digest(expected, request.headers["X-Hub-Signature-256"])
    return web.Response(status=202 if good else 401)


async def _ready(_request: web.Request) -> web.Response:
    return web.Response()


async def _serve() -> None:
    application = web.Application()
    application.add_routes([web.post("/webhook", _webhook), web.get("/readyz", _ready)])
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    for port in ("PROMGITHUB_SERVICE_PORT", "PROMGITHUB_ADMIN_PORT"):
        await web.TCPSite(runner, "127.0.0.1", int(os.environ[port])).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(_serve())
