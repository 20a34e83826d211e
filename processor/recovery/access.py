"""What each recovery works with."""

import time
from dataclasses import dataclass

from processor.counting.events import Policy
from processor.recovery.answers import Asked
from processor.recovery.client import GitHub
from processor.store import Store
from processor.store.lease import Lease
from shared.brokers.interface import Publisher


@dataclass(frozen=True, slots=True)
class RecoveryAccess:
    """GitHub's API, the store and the broker, for one recovery. The caller of the recovery holds `lease`.

    `host` is the Enterprise Server behind the API, or None.
    """

    github: GitHub
    store: Store
    publisher: Publisher
    lease: Lease
    host: str | None
    policy: Policy

    def asked(self) -> Asked:
        """Return the context of an answer that GitHub gives now."""
        return Asked(self.host, self.policy, self.now())

    def now(self) -> int:
        """Return the time by the clock of this process, in Unix milliseconds."""
        return int(time.time() * 1000)
