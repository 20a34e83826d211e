"""`/livez` and `/readyz`.

`/livez` tests only that the process answers, because a restart does not repair a broker. `/readyz` tests the
dependencies, so that a process that cannot use them gets no traffic.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web

from shared.errors import PromgithubError

CHECK_TIMEOUT = 2.0
"""Seconds that a dependency has to answer a readiness check."""

OK = "ok"
"""State of a dependency that can be used."""

Check = Callable[[], Awaitable[None]]
"""Returns if the dependency can be used, raises an error if not."""


async def livez(_request: web.Request) -> web.Response:
    """Answer 200."""
    return web.json_response({"status": "alive"})


async def states(checks: Mapping[str, Check]) -> dict[str, str]:
    """Run all checks at the same time; return `ok`, or what failed, for each."""
    return dict(zip(checks, await asyncio.gather(*map(_state, checks.values())), strict=True))


def all_pass(found: Mapping[str, str]) -> bool:
    """Return whether every check has passed; `found` is what `states` returned."""
    return all(state == OK for state in found.values())


class Readiness:
    """Answers 200 if every check passes, or 503 if a check fails or the process is stopping."""

    def __init__(self, checks: Mapping[str, Check], stop: asyncio.Event) -> None:
        """`checks` has the check of each dependency by name; `stop` is set when the process stops."""
        self._checks = checks
        self._stop = stop

    async def readyz(self, _request: web.Request) -> web.Response:
        """Run all checks, and answer which of them fail and why."""
        found = await states(self._checks)
        ready = not self._stop.is_set() and all_pass(found)
        status = "ready" if ready else "draining" if self._stop.is_set() else "not ready"
        return web.json_response({"status": status, "checks": found}, status=200 if ready else 503)


async def _state(check: Check) -> str:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT):
            await check()
    except TimeoutError:
        return f"no answer within {CHECK_TIMEOUT:g} s"
    except PromgithubError as error:  # its text contains no secret
        return f"failed: {error}"
    except Exception as error:  # noqa: BLE001 - any error means that the dependency cannot be used
        return f"failed ({type(error).__name__})"
    return OK
