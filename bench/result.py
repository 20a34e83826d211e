"""A figure, its ceiling and its target."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum


class Bound(Enum):
    """Whether a target is a minimum or a maximum."""

    AT_MOST = "≤"
    AT_LEAST = "≥"


@dataclass(frozen=True, slots=True)
class Target:
    """The required value of a figure or, with `of_ceiling`, of its ratio to the ceiling."""

    bound: Bound
    value: float
    of_ceiling: bool = False

    def __str__(self) -> str:
        return f"{self.bound.value} {self.value:g}{' x' if self.of_ceiling else ''}"

    def met_by(self, figure: float) -> bool:
        """Return whether a figure meets the target."""
        return figure <= self.value if self.bound is Bound.AT_MOST else figure >= self.value


def at_most(value: float) -> Target:
    """Return a target that is a maximum."""
    return Target(Bound.AT_MOST, value)


def at_least(value: float) -> Target:
    """Return a target that is a minimum."""
    return Target(Bound.AT_LEAST, value)


def at_most_times(value: float) -> Target:
    """Return the target of a cost: at most `times` the cost of the ceiling."""
    return Target(Bound.AT_MOST, value, of_ceiling=True)


def at_least_times(value: float) -> Target:
    """Return the target of a rate: at least `times` the rate of the ceiling."""
    return Target(Bound.AT_LEAST, value, of_ceiling=True)


@dataclass(frozen=True, slots=True)
class Result:
    """A figure in `unit`. `includes` describes the figure and, if there is one, the ceiling.

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
        """Whether the figure meets its target; None if it has no target."""
        if self.target is None:
            return None
        figure = self.ratio if self.target.of_ceiling else self.measured
        return figure is not None and self.target.met_by(figure)
