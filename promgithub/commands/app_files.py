"""The files with the ID, the key and the secret of a GitHub App, and the settings that name them."""

import os
import shlex
from pathlib import Path

from processor.recovery.app_manifest import NewApp
from shared.errors import SettingsError, SetupError
from shared.settings import PREFIX

ENVIRONMENT_FILE = "promgithub.env"
KEY_FILE = "github-app.pem"
SECRET_FILE = "webhook-secret"  # noqa: S105 - the name of a file


class AppFiles:
    """The files in a directory. They are created with mode 600, and never overwritten."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory.absolute()
        self.environment = directory / ENVIRONMENT_FILE
        self._all = [self._directory / name for name in (SECRET_FILE, KEY_FILE, ENVIRONMENT_FILE)]

    def check(self) -> None:
        """Create the directory. Raises `SettingsError` if it cannot be used, or has one of the files."""
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise SettingsError(f"{self._directory}: cannot be used ({error.strerror}); takes a directory") from error
        if not os.access(self._directory, os.W_OK | os.X_OK):
            raise SettingsError(f"{self._directory}: cannot be written; takes a writable directory")
        for file in self._all:
            if os.path.lexists(file):
                raise SettingsError(
                    f"{file}: exists already, and is not overwritten; move it away, or choose another --dir"
                )

    def write(self, app: NewApp, api_url: str | None) -> None:
        """Write all files. `api_url` is the setting, unless it is the default. Raises `SetupError`."""
        secret, key, environment = self._all
        settings = {
            "WEBHOOK_SECRET_FILE": str(secret),
            "GITHUB_APP_ID": str(app.id),
            "GITHUB_APP_KEY_FILE": str(key),
            "GITHUB_HOOKS": "app",
        } | ({"GITHUB_API_URL": api_url} if api_url else {})
        lines = [f"{PREFIX}{name}={shlex.quote(value)}" for name, value in settings.items()]
        _write(secret, f"{app.webhook_secret}\n")
        _write(key, app.pem)
        _write(environment, "\n".join([*lines, ""]))


def _write(file: Path, text: str) -> None:
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as writing:
            writing.write(text)
    except OSError as error:
        raise SetupError(f"{file}: cannot be written ({error.strerror})") from error
