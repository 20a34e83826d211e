"""What the answers of GitHub's REST API have in common: ETags, pages and "Not Found"."""

import json
from collections.abc import Mapping
from hashlib import sha256
from types import MappingProxyType
from typing import Any, TypeVar

from aiohttp import web

Item = TypeVar("Item")


def scope_of(request: web.Request) -> str:
    """Return the organisation or repository that a path names, as `acme` or `acme/gears`."""
    names = request.match_info
    return "/".join(names[key] for key in ("owner", "repo") if key in names)


def not_found() -> web.Response:
    return web.json_response({"message": "Not Found"}, status=404)


def known(request: web.Request, content: Any, headers: Mapping[str, str] = MappingProxyType({})) -> web.Response:
    """Return an answer with an ETag, 304 if the request has that ETag, or 404 if the content is None."""
    if content is None:
        return not_found()
    etag = f'"{sha256(json.dumps(content).encode()).hexdigest()}"'
    if request.headers.get("If-None-Match") == etag:
        return web.Response(status=304, headers={"ETag": etag})
    return web.json_response(content, headers={"ETag": etag, **headers})


def numbered_page(request: web.Request, items: list[Item]) -> tuple[list[Item], dict[str, str]]:
    """Return the page of a list that a request asks for by its number, and the headers that name the next page."""
    number, size = (int(request.query.get(key, default)) for key, default in (("page", "1"), ("per_page", "30")))
    end = number * size
    return items[end - size : end], next_page(request, page=number + 1) if end < len(items) else {}


def next_page(request: web.Request, **query: int) -> dict[str, str]:
    """Return the header `Link` that names the next page: the URL of the request with other parameters."""
    return {"Link": f'<{request.url.update_query(query)}>; rel="next"'}
