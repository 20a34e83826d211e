"""The errors of the test servers.

ServerError
├── MissingServerError        nothing to use was found; the text says what to install or to set
├── ServerFailedError         a server was found, but does not start or answer; the text says what it logged
└── PrometheusError           Prometheus refuses a query; the text says why
"""


class ServerError(Exception):
    """The base of the errors below."""


class MissingServerError(ServerError):
    """Nothing to use was found; the text says what to install or to set."""


class ServerFailedError(ServerError):
    """A server was found but does not start or answer."""


class PrometheusError(ServerError):
    """Prometheus refuses a query; the text says why."""
