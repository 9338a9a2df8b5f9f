"""Keeping passwords out of what others on the machine, and the work that a pilot runs, can read of this process.

A process's arguments are shown to everybody by ps, and the environment that it was started with to all that runs
under the same account (``/proc/PID/environ``), also when a variable has been removed since. Both are in the process's own
memory, and can be written over there. A core file has all of the memory, so none is written.
"""

from __future__ import annotations

import os
import re
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Callable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PASSWORD_VARIABLE = "PICAS_PASSWORD"
"""The variable with a password."""

URL_VARIABLE = "PICAS_POOL"
"""The variable with a URL, which may have a password in it."""

_LOGIN = re.compile(rb"https?://[^/:\0]*:([^/\0]*)@")

_STAT_PLACES = (45, 46, 47, 48)
"""Where in ``/proc/PID/stat``, counted from the state, it says where arguments and environment begin and end
(proc(5): arg_start, arg_end, env_start, env_end)."""

_core_limits: tuple[int, int] | None = None  # as they were before `no_core_files`


def cover(argv: Sequence[str] = ()) -> None:
    """Write over the passwords among the arguments and in the environment that this process was started with.

    `os.environ` has them still, and so has what this process starts; only who looks at it from outside does not.
    Linux only: elsewhere nothing happens.

    Args:
        argv: the arguments, as far as they are known: where neither they nor the environment have a password
            nothing is looked at.
    """
    names = [name for name in (PASSWORD_VARIABLE, URL_VARIABLE) if _has_secret(name)]
    if not names and not any(_LOGIN.search(os.fsencode(each)) for each in argv):
        return
    for place, length in _secret_places():
        _fill(place, length)
    for name in names:
        os.environ[name] = os.environ[
            name
        ]  # a new copy for what we start: the old one has just been written over


def no_core_files() -> None:
    """Let no core file be written of this process: it would have our passwords.

    The commands that a pilot starts get the old limit back by `allow_core_files`.
    """
    global _core_limits  # noqa: PLW0603 - it is the process's
    import resource  # noqa: PLC0415 - not there on every system

    limits = resource.getrlimit(resource.RLIMIT_CORE)
    if limits[0] != 0:
        _core_limits = limits
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_CORE, (0, limits[1]))


def allow_core_files(pid: int) -> None:
    """Give a program that we have started the limit of core files back that we have taken from ourselves."""
    if _core_limits is None:
        return
    import resource  # noqa: PLC0415 - not there on every system

    if hasattr(resource, "prlimit"):
        with suppress(OSError, ValueError):  # it has ended already
            resource.prlimit(pid, resource.RLIMIT_CORE, _core_limits)


def _has_secret(name: str) -> bool:
    value = os.environ.get(name, "")
    return bool(value) and (name == PASSWORD_VARIABLE or bool(_LOGIN.search(os.fsencode(value))))


def _secret_places() -> Iterator[tuple[int, int]]:
    """Address and length of each password in the memory that the system shows as arguments and environment."""
    if not sys.platform.startswith("linux"):
        return
    try:
        with open("/proc/self/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        arguments, after_arguments, environment, after_environment = (
            int(fields[place]) for place in _STAT_PLACES
        )
        blocks = []
        for start, end, shown in (
            (arguments, after_arguments, "cmdline"),
            (environment, after_environment, "environ"),
        ):
            with open(f"/proc/self/{shown}", "rb") as file:
                blocks.append((start, end, file.read()))
    except (OSError, ValueError, IndexError):  # no /proc, or one that does not tell
        return
    for start, end, text in blocks:
        if start <= 0 or end - start != len(text):
            continue  # not the memory that we think it is
        find = _in_argument if start == arguments else _in_variable
        for place, length in _secrets_in(text, find):
            yield start + place, length


def _secrets_in(
    block: bytes, find: Callable[[bytes], Iterator[tuple[int, int]]]
) -> Iterator[tuple[int, int]]:
    """Where passwords are among strings that end with NUL."""
    place = 0
    for text in block.split(b"\0"):
        for start, end in find(text):
            yield place + start, end - start
        place += len(text) + 1


def _in_argument(text: bytes) -> Iterator[tuple[int, int]]:
    return (found.span(1) for found in _LOGIN.finditer(text))


def _in_variable(text: bytes) -> Iterator[tuple[int, int]]:
    """In variables of ours alone: what others have is also for libraries that read this memory."""
    name, _, value = text.partition(b"=")
    if name == PASSWORD_VARIABLE.encode():
        yield len(name) + 1, len(text)
    elif name == URL_VARIABLE.encode():
        for start, end in _in_argument(value):
            yield len(name) + 1 + start, len(name) + 1 + end


def _fill(place: int, length: int) -> None:
    """Write stars over so many bytes at an address of our own."""
    import ctypes  # noqa: PLC0415 - only where there is something to cover

    ctypes.memset(place, ord("*"), length)
