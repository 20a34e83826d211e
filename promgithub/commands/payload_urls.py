"""The option `--url`: the payload URL of a webhook."""

from urllib.parse import urlsplit

import typer


def parse_payload_url(text: str) -> str:
    """Return a payload URL. Raises `typer.BadParameter` unless it has a host and a path."""
    try:
        parts = urlsplit(text.strip())
        usable = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0 and parts.path.strip("/")
    except ValueError:  # invalid brackets or port
        usable = False
    if not usable:
        takes = "takes the whole payload URL, such as https://ci.example.com/webhook"
        raise typer.BadParameter(f"got {text!r}, {takes}", param_hint="--url")
    return text.strip()
