"""The receiver of `promgithub standalone`: a process of its own, so that counting does not hold up its answers."""

from promgithub.receiving.receiving_process import ReceivingProcess

__all__ = ["ReceivingProcess"]
