"""Checks the process in this container: `python healthcheck.py /livez`, or `/readyz`. Exits with 1 if it fails.

It runs every few seconds, so it imports nothing but the standard library.
"""

import http.client
import os
import sys
from contextlib import suppress

PORTS = (8081, 8082)
"""The default admin ports: of `ingest` and `standalone`, and of `processor`. A container runs one of these."""

PROBE_TIMEOUT = 4.0
"""Timeout of an answer, in seconds. A readiness check takes at most 2 s."""


def answers(port: int, path: str) -> bool:
    """Return whether a request to a port and path is answered with 200."""
    with suppress(OSError, http.client.HTTPException):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PROBE_TIMEOUT)
        connection.request("GET", path)
        return connection.getresponse().status == 200
    return False


if __name__ == "__main__":
    set_port = os.environ.get("PROMGITHUB_ADMIN_PORT")
    ports = (int(set_port),) if set_port else PORTS
    sys.exit(not any(answers(port, sys.argv[1]) for port in ports))
