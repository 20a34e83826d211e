"""What stops a simulation."""

from shared.errors import PromgithubError


class SimulationError(PromgithubError):
    """The simulation cannot be played, or not be judged; the text says why."""
