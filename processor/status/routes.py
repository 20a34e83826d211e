"""The routes of the status page and its API."""

from processor.status.api import api_routes
from processor.status.page import StatusPage
from processor.status.service import StatusService
from shared.admin.server import Routes


def status_routes(service: StatusService, receiver: str) -> Routes:
    """Return the page at `/` and the API; `receiver` is the URL of the receiver's public port."""
    return {"/": StatusPage(service, receiver).page} | api_routes(service)
