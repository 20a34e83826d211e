"""The local pages of `promgithub connect`: one posts the manifest to GitHub, the other takes GitHub's code."""

import asyncio
import json
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any

from aiohttp import web

from processor.recovery.app_manifest import NewApp, registration_url
from shared.admin.html import Pages
from shared.errors import PromgithubError, SetupError
from shared.settings import format_duration
from shared.waiting import is_set_within

HOST = "127.0.0.1"

SHUTDOWN_SECONDS = 5.0
"""How long the last page may take to be sent, in seconds."""

_CODE = re.compile(r"[A-Za-z0-9_-]{1,200}", re.ASCII)


class ConnectPage:
    """Serves the pages on a free port of 127.0.0.1, between `start` and `close`."""

    def __init__(
        self,
        web_url: str,
        organisation: str | None,
        make_manifest: Callable[[str], Mapping[str, Any]],
        register: Callable[[str], Awaitable[NewApp]],
    ) -> None:
        """`web_url` is that of GitHub's pages.

        `make_manifest` returns the manifest for a redirect URL. `register` exchanges GitHub's code for the App and
        stores that. What it raises as a `PromgithubError` is shown.
        """
        self._organisation = organisation
        self._make_manifest = make_manifest
        self._register = register
        # Other users of this machine can reach the port, but know neither the first page's path nor the state in it.
        self._path = f"/{secrets.token_urlsafe(16)}"
        self._state = secrets.token_urlsafe(32)
        self._action = registration_url(web_url, organisation, self._state)
        self._pages = Pages("promgithub", form_action=web_url)
        self._taken = asyncio.Event()
        self._outcome: asyncio.Future[NewApp] = asyncio.get_running_loop().create_future()
        application = web.Application()
        application.add_routes([web.get(self._path, self._offer), web.get("/created", self._created)])
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=SHUTDOWN_SECONDS)
        self._address = ""

    async def start(self) -> str:
        """Listen; return the URL of the first page."""
        await self._runner.setup()
        await web.TCPSite(self._runner, HOST, 0).start()
        self._address = f"{HOST}:{self._runner.addresses[0][1]}"
        return f"http://{self._address}{self._path}"

    async def close(self) -> None:
        """Stop listening, once the last page is sent."""
        await self._runner.cleanup()

    async def code_taken(self, within: timedelta) -> bool:
        """Wait until the browser has brought GitHub's code; return True. Raises `SetupError` after `within`."""
        if not await is_set_within(self._taken, within.total_seconds()):
            raise SetupError(f"GitHub has registered no App within {format_duration(within)}; start again")
        return True

    async def registered(self) -> NewApp:
        """Return the App once it is stored. Raises what `register` raises."""
        return await self._outcome

    async def _offer(self, _request: web.Request) -> web.StreamResponse:
        """Answer with the form that posts the manifest."""
        manifest = self._make_manifest(f"http://{self._address}/created")
        page = self._pages.render(
            "connect.html.j2",
            action=self._action,
            organisation=self._organisation,
            manifest=manifest,
            manifest_text=json.dumps(manifest),
        )
        return self._pages.response(page)

    async def _created(self, request: web.Request) -> web.StreamResponse:
        """Take GitHub's code, if the state is the one that was posted."""
        code, state = (request.query.get(name, "") for name in ("code", "state"))
        if not secrets.compare_digest(state.encode("utf-8", "surrogatepass"), self._state.encode()):
            return self._wrong("This answer does not belong to the form of this page. Nothing was done.", 403)
        if not _CODE.fullmatch(code):
            return self._wrong("GitHub's answer has no code. Nothing was done.", 400)
        if self._taken.is_set():
            return self._wrong("GitHub's answer was taken already. The terminal says what is next.", 409)
        self._taken.set()
        try:
            app = await self._register(code)
        except PromgithubError as error:
            self._outcome.set_exception(error)
            return self._wrong(str(error), 502)
        page = self._pages.response(self._pages.render("connected.html.j2", app=app, wrong=""))
        self._outcome.set_result(app)
        return page

    def _wrong(self, text: str, status: int) -> web.Response:
        return self._pages.response(self._pages.render("connected.html.j2", app=None, wrong=text), status)
