"""Times as the pages and tables of every process show them. Pure."""

from datetime import datetime


def instant(moment: datetime) -> str:
    """Return a time in UTC, to the second."""
    return moment.strftime("%Y-%m-%d %H:%M:%S UTC")
