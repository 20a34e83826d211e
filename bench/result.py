"""A figure, what it is compared with, and what it has to be."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum


class Bound(Enum):
    """Which side of a target is the good one."""

    AT_MOST = "≤"
    AT_LEAST = "≥"


@dataclass(frozen=True, slots=True)
class Target:
    """What a figure, or with `of_ceiling` its ratio to the ceiling, has to be."""

    bound: Bound
    value: float
    of_ceiling: bool = False

    def __str__(self) -> str:
        return f"{self.bound.value} {self.value:g}{' x' if self.of_ceiling else ''}"

    def met_by(self, figure: float) -> bool:
        """Tell whether a figure is as it has to be."""
        return figure <= self.value if self.bound is Bound.AT_MOST else figure >= self.value


def at_most(value: float) -> Target:
    """Return the target of a figure that has to be small."""
    return Target(Bound.AT_MOST, value)


def at_least(value: float) -> Target:
    """Return the target of a figure that has to be large."""
    return Target(Bound.AT_LEAST, value)


def at_most_times(value: float) -> Target:
    """Return the target of a cost that may be so many times that of the ceiling."""
    return Target(Bound.AT_MOST, value, of_ceiling=True)


def at_least_times(value: float) -> Target:
    """Return the target of a rate that must be so many times that of the ceiling."""
    return Target(Bound.AT_LEAST, value, of_ceiling=True)


@dataclass(frozen=True, slots=True)
class Result:
    """A figure in `unit`; `includes` says what is in it and, where there is one, what the ceiling is.

    `details` are further figures of the same measurement, each with its unit in its name.
    """

    name: str
    measured: float
    unit: str
    includes: str
    ceiling: float | None = None
    target: Target | None = None
    details: Mapping[str, float] = field(default_factory=dict)

    @property
    def ratio(self) -> float | None:
        """The figure as a multiple of the ceiling."""
        return self.measured / self.ceiling if self.ceiling else None

    @property
    def met(self) -> bool | None:
        """Whether the figure is as it has to be; None if nothing is asked of it."""
        if self.target is None:
            return None
        figure = self.ratio if self.target.of_ceiling else self.measured
        return figure is not None and self.target.met_by(figure)
