"""HTML pages for people: escaped, in one document, and with a policy that lets it load nothing from elsewhere."""

from base64 import b64encode
from hashlib import sha256
from importlib.resources import files
from typing import Any

from aiohttp import web
from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

_POLICY = (
    "default-src 'none'; style-src '{style}'; script-src {script}; connect-src 'self'; img-src data:; "
    "form-action {form_action}; base-uri 'none'; frame-ancestors 'none'"
)


class Pages:
    """Renders the templates of a package, which may extend those of this one."""

    def __init__(self, package: str, script: str = "", form_action: str = "'self'") -> None:
        """`package` has a folder `templates`, and in it the file `script`, if one is given.

        Forms may be sent to the origin `form_action` only.
        """
        loader = ChoiceLoader([PackageLoader(package), PackageLoader("shared.admin")])
        self._environment = Environment(
            loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
        )
        style = _file("shared.admin", "page.css")
        code = _file(package, script) if script else ""
        self._environment.globals |= {"style": Markup(style), "script": Markup(code)}  # noqa: S704 - our own files
        # The hashes let only this style and this script run (https://www.w3.org/TR/CSP3/#match-element-to-source-list).
        allowed = f"'{_hash(code)}'" if code else "'none'"
        self._headers = {
            "Content-Security-Policy": _POLICY.format(style=_hash(style), script=allowed, form_action=form_action),
            "Cache-Control": "no-store",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
        }

    def render(self, name: str, **values: Any) -> bytes:
        """Return a page."""
        return self._environment.get_template(name).render(values).encode()

    def response(self, body: bytes, status: int = 200) -> web.Response:
        """Return the answer with a page."""
        return web.Response(body=body, status=status, content_type="text/html", charset="utf-8", headers=self._headers)


def _file(package: str, name: str) -> str:
    return files(package).joinpath("templates", name).read_text("utf-8")


def _hash(text: str) -> str:
    return f"sha256-{b64encode(sha256(text.encode()).digest()).decode()}"
