"""Which URLs of databases are accepted."""

import re
from collections.abc import Sequence
from urllib.parse import parse_qsl, urlsplit

SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
"""Values of `sslmode` (https://www.postgresql.org/docs/current/libpq-ssl.html)."""

PARAMETERS = (
    "host",
    "passfile",
    "password",
    "port",
    "sslmode",
    "statement_cache_size",
    "target_session_attrs",
    "user",
)
"""Parameters of a PostgreSQL URL."""

SEVERAL = "postgresql://user:password@/database?host=one:5432&host=other:5432"
"""The form of a URL of several servers, which SQLAlchemy's dialect for asyncpg understands."""

_VALUES = {
    "sslmode": SSL_MODES,
    "statement_cache_size": ("0",),
    "target_session_attrs": ("any", "primary", "standby", "read-write", "read-only", "prefer-standby"),
}

_HOST_AND_PORT = re.compile(r"[^:,]+:\d+")


def check_parameters(url: str) -> None:
    """Raise `ValueError`, with a reason that quotes no value, if a parameter of the URL is unknown or invalid."""
    parts = urlsplit(url)
    seen: dict[str, str] = {}
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if parts.scheme == "sqlite" or name not in PARAMETERS:
            raise ValueError(f"unknown parameter {name!r}")
        if name in seen and name != "host":
            raise ValueError(f"{name} is given twice")
        seen[name] = value
    for name, allowed in _VALUES.items():
        if name in seen and seen[name] not in allowed:
            raise ValueError(f"{name} takes {'one of ' * (len(allowed) > 1)}{', '.join(allowed)}")
    _check_hosts([value for name, value in parse_qsl(parts.query) if name == "host"], parts.hostname, "port" in seen)


def _check_hosts(hosts: Sequence[str], first: str | None, port: bool) -> None:
    """Raise `ValueError` if several servers are given in another form than that of `SEVERAL`."""
    several = len(hosts) > 1 or any("," in host for host in hosts)
    if several and (port or first or any(not _HOST_AND_PORT.fullmatch(host) for host in hosts)):
        raise ValueError(f"several servers are given as {SEVERAL}")
