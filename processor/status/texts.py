"""Numbers, durations and times as people read them. Pure."""

from datetime import datetime

from shared.admin.instants import instant

NONE = "\N{EN DASH}"
"""What stands for a value that there is not."""

PHASE_NAMES = {"queued": "queued", "waiting": "held back", "in_progress": "running"}
"""The phases of open runs and jobs."""

WINDOW_TITLES = {"24h": "Last 24 hours", "7d": "Last 7 days"}
"""The windows."""

STEP_NAMES = {"24h": "per hour", "7d": "per 6 hours"}
"""The steps of each window."""

_UNITS = ((86_400, "d"), (3600, "h"), (60, "min"))


def duration(seconds: float | None) -> str:
    """Return a duration in one or two units, such as `2 h 5 min`; a dash if there is none."""
    if seconds is None:
        return NONE
    if seconds < 10:
        return f"{seconds:.1f} s"
    left = round(seconds)
    if left < 60:
        return f"{left} s"
    for (size, unit), (part, small) in zip(_UNITS, (*_UNITS[1:], (1, "s")), strict=True):
        if left >= size:
            rest = left % size // part
            return f"{left // size} {unit} {rest} {small}" if rest else f"{left // size} {unit}"
    raise AssertionError(seconds)


def instant_or_dash(moment: datetime | None) -> str:
    """Return a time; a dash if there is none."""
    return NONE if moment is None else instant(moment)


def ratio(value: float | None) -> str:
    """Return a ratio in per cent; a dash if there is none."""
    return NONE if value is None else f"{value:.1%}"


def dollars(value: float) -> str:
    """Return US dollars."""
    return f"${value:,.2f}"


def number(value: int | None) -> str:
    """Return a whole number with separators; a dash if it is not known."""
    return NONE if value is None else f"{value:,}"


def size(value: int) -> str:
    """Return a number of bytes in the largest unit that is not larger."""
    amount, units = float(value), ("B", "KiB", "MiB", "GiB", "TiB")
    for unit in units:
        if amount < 1024 or unit == units[-1]:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    raise AssertionError(value)


def in_a_row(times: int) -> str:
    """Return how often a job has failed since its last success."""
    return f"{times} times" if times > 1 else "once" if times else "works again"
