"""Free TCP ports on loopback."""

import os
import random
import socket

# Below the range from which the kernel takes the ports of outgoing connections (32768 and up on Linux): while a server
# is down, nothing else can be given its port, nor can a client that reconnects to it end up connected to itself.
# Tests that run at the same time share them out, as a port that was handed out may be free for a while.
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
_PORTS = range(20_000 + _WORKER, 32_000, _WORKERS)
_handed_out: set[int] = set()


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nothing listens on and that this function has not returned before."""
    for port in random.sample(_PORTS, len(_PORTS)):
        if port not in _handed_out and _is_free(port):
            _handed_out.add(port)
            return port
    raise OSError(f"no free port in {_PORTS}")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
