"""Ask the process in this container how it is: `python healthcheck.py /livez`, or `/readyz`. Exits with 1 if not well.

It stands alone, and is small, because it runs every few seconds.
"""

import http.client
import os
import sys
from contextlib import suppress

PORTS = (8081, 8082)
"""The default admin ports of the roles: `ingest` and `standalone`, `processor`. One container has one of them."""

TIMEOUT = 4.0
"""Seconds for an answer; a readiness check takes 2 at most."""


def answers(port: int, path: str) -> bool:
    """Tell whether a path on a port is answered with 200."""
    with suppress(OSError, http.client.HTTPException):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
        connection.request("GET", path)
        return connection.getresponse().status == 200
    return False


if __name__ == "__main__":
    set_port = os.environ.get("PROMGITHUB_ADMIN_PORT")
    ports = (int(set_port),) if set_port else PORTS
    sys.exit(not any(answers(port, sys.argv[1]) for port in ports))
