"""nginx and Caddy for tests: private instances with the configurations of `deploy/proxies`, before a test's process."""

import asyncio
import os
import shutil
import signal
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar
from urllib.parse import urlsplit

import trustme

from tests.support.servers.daemon import Daemon
from tests.support.servers.errors import MissingServerError
from tests.support.servers.private import PrivateServer

NAME = "webhooks.example.com"
"""The name in the configurations, which the certificate is for."""

_DEPLOYED = Path(__file__).parents[3] / "deploy/proxies"
_WEBHOOK = "127.0.0.1:8080"

_NGINX = """\
daemon off;
pid nginx.pid;
error_log stderr;
user root;
events {{}}
http {{
  access_log off;
  client_body_temp_path body;
  proxy_temp_path proxy;
  fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  include {site};
}}
"""
"""What a Debian system has around a site, with all files in the server's own directory."""


class TlsProxy(PrivateServer):
    """A private proxy that ends TLS with a certificate for `NAME`.

    Raises `MissingServerError` when created where the program is not installed.
    """

    program: ClassVar[str]
    graceful = signal.SIGTERM

    def __init__(self, service_url: str) -> None:
        """`service_url`: the receiver to which it passes requests, instead of port 8080."""
        self._service = urlsplit(service_url).netloc
        program = shutil.which(self.program, path=f"{os.environ['PATH']}:/usr/sbin")
        if program is None:
            package = f"{self.name} is not installed:\n  Debian, Ubuntu   sudo apt-get install {self.program}"
            raise MissingServerError(f"{package}\n  macOS            brew install {self.program}")
        self._path = program
        self._authority = trustme.CA()
        super().__init__(program)

    @property
    def url(self) -> str:
        """Its address. Its certificate is for `NAME`."""
        return f"https://127.0.0.1:{self.port}"

    @property
    def authority(self) -> trustme.CA:
        """Who signed its certificate."""
        return self._authority

    @abstractmethod
    def _command(self, certificate: Path, key: Path) -> list[str]:
        """Write the configuration and return the arguments of the program."""

    def _prepare(self) -> Daemon:
        certificate, key = self.directory / "certificate.pem", self.directory / "key.pem"
        issued = self._authority.issue_cert(NAME)
        issued.cert_chain_pems[0].write_to_path(certificate)
        issued.private_key_pem.write_to_path(key)
        command = [self._path, *self._command(certificate, key)]
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.directory)}
        # SIGKILL would leave the workers of nginx behind.
        return Daemon(command, environment, self.directory / "server.log", last_signal=signal.SIGTERM)

    async def _initialise(self) -> None:
        pass

    async def _probe(self) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.close()

    def _site(self, file: str, changes: Mapping[str, str]) -> Path:
        """Write a configuration with what an operator changes, and ports and files of the test's own."""
        text = (_DEPLOYED / file).read_text("utf-8")
        for old, new in {_WEBHOOK: self._service, **changes}.items():
            assert old in text, f"{old!r} is not in {file}"
            text = text.replace(old, new)
        site = self.directory / file
        site.write_text(text, "utf-8")
        return site


class Nginx(TlsProxy):
    """nginx with `nginx.conf` as its only site."""

    name = "nginx"
    program = "nginx"

    def _command(self, certificate: Path, key: Path) -> list[str]:
        changes = {
            "443 ssl": f"127.0.0.1:{self.port} ssl",
            "/etc/ssl/webhooks.pem": str(certificate),
            "/etc/ssl/webhooks.key": str(key),
        }
        main = self.directory / "main.conf"
        main.write_text(_NGINX.format(site=self._site("nginx.conf", changes)), "utf-8")
        return ["-p", str(self.directory), "-c", str(main)]


class Caddy(TlsProxy):
    """Caddy with `Caddyfile`, and no listener of its own for administration."""

    name = "Caddy"
    program = "caddy"

    def _command(self, certificate: Path, key: Path) -> list[str]:
        changes = {
            "{\n\tservers": "{\n\tadmin off\n\tauto_https off\n\tservers",
            f"{NAME} {{\n": f"https://{NAME}:{self.port} {{\n\tbind 127.0.0.1\n\ttls {certificate} {key}\n",
        }
        return ["run", "--adapter", "caddyfile", "--config", str(self._site("Caddyfile", changes))]
