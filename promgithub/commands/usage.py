"""What `--help` shows: arguments that are required, and the settings of a long-running command."""

from typing import Any

from typer.core import TyperCommand

from shared import settings


class PlainCommand(TyperCommand):
    """A command whose usage line shows a required argument as `URL`. Typer would show `{URL}`."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the pieces of the usage line."""
        return [piece.replace("{", "").replace("}", "") for piece in super().collect_usage_pieces(ctx)]


def settings_of_role(role: str) -> str:
    """Return a paragraph that names the settings of a role of `settings.ROLES`."""
    names = [one.variable.removeprefix(settings.PREFIX) for one in settings.described(settings.ROLES[role]).values()]
    return (
        f"Settings are environment variables with the prefix {settings.PREFIX}, or files that NAME_FILE names: "
        f"{', '.join(names)}.\n\n`promgithub check-config {role}` prints their values. See docs/configuration.md."
    )
