"""Running commands, as programs of picasclient know it: ``picas.executers``."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING, Any, Union

from . import generation

if TYPE_CHECKING:
    from collections.abc import Sequence

    Command = Union[str, Sequence[Union[str, os.PathLike[str]]]]


def execute(args: Command, shell: bool = False) -> tuple[Any, ...]:  # noqa: FBT001, FBT002 - given by position
    """Run a command to its end.

    Args:
        args: the command and its arguments; or one text, if a shell is to read it.
        shell: whether a shell reads it.

    Returns:
        the ended process (a `subprocess.Popen`), its exit code, and what it wrote to its standard output and error
        output, as bytes. Within an actor of 0.x (one with ``process_token``) the first of these is left out, as it was
        in 0.x.

    Raises:
        OSError: it cannot be started.
    """
    with subprocess.Popen(args, shell=shell, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        out, err = process.communicate()
    told = (process.returncode, out, err)
    return told if generation.is_oldest() else (process, *told)


def execute_old(cmd: str) -> int:
    """Run a text in a shell; its status as `os.system` gives it."""
    return os.system(cmd)  # noqa: S605 - that is what it is for
