"""The pages and the API that create an App from a manifest, its installations, and the tokens that GitHub accepts."""

import json
import secrets
import time
from collections.abc import Mapping

from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.support.builders import Payload
from tests.support.fake_github.answers import known, not_found

TOKEN = "a-personal-token"


class Apps:
    """One App, which is installed in every repository. `url` is where GitHub is."""

    def __init__(self, url: str, repositories: Mapping[str, Payload]) -> None:
        self.app: Payload | None = None
        """The App, as the conversion of its manifest shows it."""
        self.hook: Payload = {}
        """The configuration of its hook."""
        self.tokens = {TOKEN}
        """The tokens that GitHub accepts. A new token of an installation replaces all others."""
        self.minted = 0
        self._manifests: dict[str, Payload] = {}
        """The manifests that were submitted, by the code that GitHub gave for each."""
        self._url = url
        self._repositories = repositories

    def routes(self) -> list[web.RouteDef]:
        return [
            *(web.post(f"{place}/settings/apps/new", self._new_app) for place in ("", "/organizations/{org}")),
            web.post("/settings/apps", self._create_app),
            web.post("/app-manifests/{code}/conversions", self._convert),
            web.get("/app", self._own_app),
            web.get("/app/hook/config", self._own_hook),
            web.get("/app/installations", self._installations),
            web.post("/app/installations/{id}/access_tokens", self._mint),
            web.get("/repos/{owner}/{repo}/installation", self._installation),
            web.get("/orgs/{owner}/installation", self._installation),
            web.get("/installation/repositories", self._installed),
        ]

    async def _new_app(self, request: web.Request) -> web.Response:
        """Answer a manifest with the page that asks for the App's name, as GitHub does."""
        manifest = json.loads(str((await request.post())["manifest"]))
        assert manifest.keys() >= {"url", "redirect_url", "hook_attributes", "default_permissions", "default_events"}
        code = secrets.token_hex(20)
        self._manifests[code] = manifest | {"organization": request.match_info.get("org")}
        state = request.query["state"]
        form = f'<input type="hidden" name="code" value="{code}"><input type="hidden" name="state" value="{state}">'
        page = (
            f'<!doctype html><html lang="en"><title>New App</title><link rel="icon" href="data:,">'
            f'<form action="/settings/apps" method="post">{form}<button>Create GitHub App</button></form></html>'
        )
        return web.Response(text=page, content_type="text/html")

    async def _create_app(self, request: web.Request) -> web.Response:
        form = await request.post()
        code, state = str(form["code"]), str(form["state"])
        raise web.HTTPFound(f"{self._manifests[code]['redirect_url']}?code={code}&state={state}")

    async def _convert(self, request: web.Request) -> web.Response:
        """Answer with the App of a manifest. A code is valid once."""
        manifest = self._manifests.pop(request.match_info["code"], None)
        if manifest is None:
            return not_found()
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        kind, form = serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL
        organization = manifest["organization"]
        self.app = {
            "id": 419,
            "slug": manifest["name"],
            "node_id": "MDM6QXBwNDE5",
            "owner": {"login": organization or "octocat", "type": "Organization" if organization else "User"},
            "name": manifest["name"],
            "external_url": manifest["url"],
            "html_url": f"{self._url}/apps/{manifest['name']}",
            "client_id": "Iv23liAbCdEf",
            "client_secret": secrets.token_hex(20),
            "webhook_secret": secrets.token_hex(20),
            "pem": key.private_bytes(kind, form, serialization.NoEncryption()).decode(),
            "permissions": manifest["default_permissions"],
            "events": manifest["default_events"],
        }
        self.hook = {"url": manifest["hook_attributes"]["url"], "content_type": "json", "insecure_ssl": "0"}
        return web.json_response(self.app, status=201)

    async def _own_app(self, request: web.Request) -> web.Response:
        private = {"client_secret", "webhook_secret", "pem"}
        app = self.app and {name: value for name, value in self.app.items() if name not in private}
        return known(request, app)

    async def _own_hook(self, request: web.Request) -> web.Response:
        return known(request, self.hook | {"secret": "********"})

    async def _installations(self, _request: web.Request) -> web.Response:
        owners = {name.partition("/")[0] for name in self._repositories}
        accounts = [{"login": owner, "type": "Organization"} for owner in sorted(owners)]
        return web.json_response([{"id": 77, "account": account} for account in accounts])

    async def _installation(self, _request: web.Request) -> web.Response:
        return web.json_response({"id": 77})

    async def _installed(self, _request: web.Request) -> web.Response:
        repositories = list(self._repositories.values())
        return web.json_response({"total_count": len(repositories), "repositories": repositories})

    async def _mint(self, _request: web.Request) -> web.Response:
        self.minted += 1
        token = f"ghs_{self.minted}"
        self.tokens = {token}
        ends = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3600))
        return web.json_response({"token": token, "expires_at": ends}, status=201)
