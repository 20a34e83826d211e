"""Which GitHub host a delivery or an API belongs to. Pure.

Only GitHub Enterprise Server sends its host name in its deliveries (`X-GitHub-Enterprise-Host`). Deliveries from
github.com, and from GitHub Enterprise Cloud with data residency (`X.ghe.com`), have no such header.
"""

import re
from urllib.parse import urlsplit

LONGEST = 253
"""Maximum number of characters in a host name (RFC 1035 section 3.1)."""

_GITHUB = "github.com"
_GHE_CLOUD = ".ghe.com"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOST = re.compile(rf"({_LABEL}(?:\.{_LABEL})*)(?::[0-9]{{1,5}})?")


def parse_host(text: str) -> str | None:
    """Return the host in `HOST` or `HOST:PORT`, in lower case and without the port, or None if the text is neither."""
    match = _HOST.fullmatch(text)
    return match[1].lower() if match and len(match[1]) <= LONGEST else None


def home_host(api_url: str) -> str:
    """Return the host of the repositories that an API URL serves.

    `https://api.github.com` serves `github.com`, `https://api.X.ghe.com` serves `X.ghe.com`
    (https://docs.github.com/en/enterprise-cloud@latest/admin/data-residency), and the API of an Enterprise Server is
    on the server's own host.
    """
    host = urlsplit(api_url).hostname or ""
    served = host.removeprefix("api.")
    return served if served == _GITHUB or served.endswith(_GHE_CLOUD) else host


def web_url(api_url: str) -> str:
    """Return the URL of the web pages of the GitHub behind an API URL, without a slash at its end."""
    parts = urlsplit(api_url)
    place = parts.netloc.rpartition("@")[2].lower()
    return f"{parts.scheme}://{place.removeprefix('api.') if home_host(api_url) != parts.hostname else place}"


def enterprise_host(api_url: str) -> str | None:
    """Return the `X-GitHub-Enterprise-Host` that this GitHub's webhooks send, or None if they send no such header."""
    host = home_host(api_url)
    return None if host == _GITHUB or host.endswith(_GHE_CLOUD) else host
