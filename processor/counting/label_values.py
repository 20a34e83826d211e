"""Label values: their length and characters, and the branches that keep their name. Pure."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

OTHER_BRANCH = "other"
"""Label value of all branches that do not keep their name."""

MERGE_QUEUE = "merge_queue"
"""Label value of the branches of a merge queue. GitHub creates one for each group of pull requests."""

MERGE_QUEUE_PREFIX = "gh-readonly-queue/"
"""How the names of these branches begin (GitHub docs, "Managing a merge queue")."""

UNKNOWN = "unknown"
"""Label value of a name that GitHub did not send."""

LABEL_LENGTH = 16_384
"""Maximum number of characters in a label value, much longer than any name on GitHub."""


def clean(text: str) -> str:
    """Return `text` as a label value: with limited length, and without NUL, which PostgreSQL cannot store."""
    return text[:LABEL_LENGTH].replace("\0", "\ufffd")


def job_label(name: str) -> str:
    """Return the name of a job without the values of its matrix: without one group in parentheses at the end."""
    depth = 0
    for place in range(len(name) - 1, 0, -1):
        depth += {")": 1, "(": -1}.get(name[place], 0)
        if depth == 0:
            return name[: place - 1] if name[place] == "(" and name[place - 1] == " " and place > 1 else name
    return name


@dataclass(frozen=True, slots=True)
class BranchPolicy:
    """Which branches keep their name as a label value.

    `pattern` is a regular expression that must match the whole name; `<default>` in it stands for the repository's
    default branch. The branches of a merge queue never keep their name.
    """

    pattern: str
    label: Callable[[str, str | None], str] = field(init=False, repr=False, compare=False)
    """Return the label value for a branch of a repository with a default branch (None: not known)."""
    _matcher: Callable[[str | None], re.Pattern[str]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Compile once per default branch, and match once per branch, for the most recent of them."""
        object.__setattr__(self, "_matcher", lru_cache(maxsize=1024)(self._compile))
        object.__setattr__(self, "label", lru_cache(maxsize=8192)(self._label))

    def _compile(self, default_branch: str | None) -> re.Pattern[str]:
        default = "(?!)" if default_branch is None else re.escape(default_branch)
        return re.compile(self.pattern.replace("<default>", default))

    def _label(self, branch: str, default_branch: str | None) -> str:
        if branch.startswith(MERGE_QUEUE_PREFIX):
            return MERGE_QUEUE
        return clean(branch) if self._matcher(default_branch).fullmatch(branch) else OTHER_BRANCH
