"""Every error that promgithub raises on purpose.

PromgithubError
├── SettingsError             a setting is missing or wrong; the text names it, what it got and what it takes
├── BrokerError               a delivery could not be handed to the broker
│   ├── BrokerUnavailable     no connection, blocked by an alarm, or no confirm in time; it may still arrive
│   ├── QueueFull             the bounded queue refused it
│   └── MessageTooLarge       the broker takes no message of this size
├── DeadLetterError           a dead letter that was named is not there, or not all were come to
├── GitHubError               GitHub's API did not do what was asked
│   ├── GitHubUnavailable     not reached, or not working; a later attempt may succeed
│   └── GitHubRefused         it does not let us; the text says what is needed
│       └── NotOnGitHub       it knows no such thing, or does not show it to us
├── RecoveryError             a recovery was stopped before its end
│   └── BusyError             somebody else is at it, which only one may be at a time
├── StoreError                the store cannot be used as it is (unreachable in time, wrong schema)
└── PoisonError               a delivery that can never be processed; `reason` is a short, bounded word for metrics
"""


class PromgithubError(Exception):
    """The base of all errors below."""


class SettingsError(PromgithubError):
    """A setting is missing or wrong."""


class BrokerError(PromgithubError):
    """A delivery could not be handed to the broker."""


class BrokerUnavailable(BrokerError):  # noqa: N818 - the condition is the name
    """The broker cannot be reached, is blocked, or did not confirm in time (the delivery may still arrive)."""


class QueueFull(BrokerError):  # noqa: N818
    """The queue is at its bound and refused the delivery."""


class MessageTooLarge(BrokerError):  # noqa: N818
    """The delivery is larger than the broker accepts."""


class DeadLetterError(PromgithubError):
    """A dead letter that was named is not there, or the work on them ended before all were come to."""


class GitHubError(PromgithubError):
    """GitHub's API did not do what was asked."""


class GitHubUnavailable(GitHubError):  # noqa: N818 - the condition is the name
    """GitHub's API was not reached, or did not work; a later attempt may succeed."""


class GitHubRefused(GitHubError):  # noqa: N818
    """GitHub's API does not let us; the text says what is needed."""


class NotOnGitHub(GitHubRefused):
    """GitHub knows no such thing, or does not show it to us: it does not tell the one from the other."""


class RecoveryError(PromgithubError):
    """A recovery was stopped before its end."""


class BusyError(RecoveryError):
    """Somebody else is at it, which only one may be at a time."""


class StoreError(PromgithubError):
    """The store cannot be used as it is."""


class PoisonError(PromgithubError):
    """A delivery that no retry can process.

    `reason` is one of a small set of words (it becomes a label value); `detail` says what exactly was wrong.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
