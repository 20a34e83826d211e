"""The base class of private servers with an HTTP API like that of Prometheus, whose `/-/ready` says that it answers."""

import aiohttp

from tests.support.servers.private import PrivateServer


class WebServer(PrivateServer):
    """A private server that starts without preparations and is ready once `/-/ready` says so."""

    @property
    def url(self) -> str:
        """Where its API is."""
        return f"http://127.0.0.1:{self.port}"

    async def _initialise(self) -> None:
        pass

    async def _probe(self) -> None:
        try:
            async with aiohttp.ClientSession() as client, client.get(f"{self.url}/-/ready") as answer:
                if answer.status != 200:
                    raise ConnectionError(f"it answers {answer.status}")
        except aiohttp.ClientConnectionError as error:
            raise ConnectionError(str(error)) from error
