"""A fake of the parts of GitHub's REST API that promgithub uses, over real HTTP, and of the pages that create an App.

`server` has the server, and what holds for every request: credentials, limits and failures. The other modules have what
GitHub knows: `actions`, `apps`, `hooks` and their `deliveries`. `answers` has what their answers have in common.
"""

from tests.support.fake_github.apps import TOKEN
from tests.support.fake_github.deliveries import HOOK
from tests.support.fake_github.server import FakeGitHub

__all__ = ["HOOK", "TOKEN", "FakeGitHub"]
