"""What commands have in common: the settings file, the folder of the queue, and how a mistake ends them.

Exit codes: 0 it is so, 1 what was asked about is not well, 2 it could not be asked (settings, files, arguments).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

if TYPE_CHECKING:
    from relay.settings import Settings

config_option = click.option(
    "--config",
    "file",
    envvar="RELAY_CONFIG",
    show_envvar=True,
    metavar="FILE",
    type=click.Path(path_type=Path, readable=False),
    help="the settings file",
)


def fail(problems: Iterable[str]) -> NoReturn:
    """Say what is wrong, a line each, and exit."""
    for problem in problems:
        click.echo(problem, err=True)
    sys.exit(2)


def load(file: Path | None) -> Settings:
    """The settings, with the files that they name. Raises ConfigError."""
    from relay.config import load as load_settings

    return load_settings(file, os.environ)


def load_without_files(file: Path | None) -> Settings:
    """The settings alone: whoever looks into the queue need not be able to read the service's key."""
    from relay.config import load_without_files as load_settings

    return load_settings(file, os.environ)


def queue_folder(file: Path | None) -> Path:
    """Where the queue is. Raises ConfigError; where it is not, and no settings file was named, that is what is said."""
    from relay.config import state_folder

    folder = state_folder(load_without_files(file), os.environ)
    with suppress(PermissionError):  # who opens it says more
        if file is None and not folder.exists():
            where = "the settings file says where it is: --config FILE or RELAY_CONFIG"
            fail([f"relay: there is no queue in {folder}; {where}"])
    return folder
