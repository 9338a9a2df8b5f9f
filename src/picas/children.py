"""Child processes of a pilot: waiting for many at once, stopping whole groups, leaving none behind.

Every attempt's process leads a session, and so a process group, of its own. Its end is noticed through a
pidfd (Linux 5.3, Python 3.9), elsewhere through SIGCHLD. What a command leaves in its group is stopped
with it. What escapes from the group (a daemon) becomes the pilot's own child, since the pilot is a
subreaper (prctl(2), Linux 3.4), and is found there by the claim id in its environment.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection
    from types import TracebackType

POLL_SECONDS = 0.02
"""How often the children are asked for where no event tells of their end."""

_PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True)
class Ended:
    """A child that ended.

    Attributes:
        exit_code: as shells give it: 128+n for one that signal n killed.
        signal: the signal that killed it, if one did.
        cpu, max_rss: CPU seconds and peak resident bytes of it and the children it waited for.
    """

    pid: int
    exit_code: int
    signal: int | None
    cpu: float
    max_rss: int


class Children:
    """The running children of this pilot, and a bell that wakes it."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._bell, self._clapper = socket.socketpair()
        self._bell.setblocking(False)
        self._clapper.setblocking(False)
        self._selector.register(self._bell, selectors.EVENT_READ)
        self._pidfds: dict[int, int] = {}  # pid → pidfd, −1 where there is none
        self._subreaper = _become_subreaper()

    def __enter__(self) -> Children:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._selector.close()
        self._bell.close()
        self._clapper.close()

    @property
    def bell_fd(self) -> int:
        """The file descriptor to write a byte to, for `signal.set_wakeup_fd`."""
        return self._clapper.fileno()

    def ring(self) -> None:
        """Make `wait` return soon; from any thread."""
        with suppress(BlockingIOError, OSError):  # full: it rings already; closed: nobody waits any more
            self._clapper.send(b"!")

    def add(self, pid: int) -> None:
        """Watch over a child that was just started."""
        pidfd = _pidfd_open(pid)
        self._pidfds[pid] = pidfd
        if pidfd >= 0:
            self._selector.register(pidfd, selectors.EVENT_READ, pid)

    def wait(self, timeout: float | None) -> list[Ended]:
        """The children that ended, as soon as one has, the bell rings, or ``timeout`` seconds are over."""
        without = [pid for pid, pidfd in self._pidfds.items() if pidfd < 0]
        if without and (timeout is None or timeout > POLL_SECONDS):
            timeout = POLL_SECONDS
        ready = []
        for key, _ in self._selector.select(timeout):
            if key.data is None:
                with suppress(BlockingIOError):
                    while self._bell.recv(4096):
                        pass
            else:
                ready.append(key.data)
        return [ended for pid in (*ready, *without) if (ended := self._reap(pid)) is not None]

    def _reap(self, pid: int) -> Ended | None:
        try:
            found, status, usage = os.wait4(pid, os.WNOHANG)
        except ChildProcessError:  # somebody else in this process has waited for it
            found, status, usage = pid, 0, None
        if not found:
            return None
        pidfd = self._pidfds.pop(pid)
        if pidfd >= 0:
            self._selector.unregister(pidfd)
            os.close(pidfd)
        killer = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
        code = os.WEXITSTATUS(status) if killer is None else 128 + killer
        cpu = usage.ru_utime + usage.ru_stime if usage else 0.0
        return Ended(pid, code, killer, cpu, _bytes(usage.ru_maxrss) if usage else 0)

    def stray(self, ended_claims: Collection[str]) -> list[int]:
        """Pids of processes that outlived their attempt in a session of their own.

        Args:
            ended_claims: the claim ids of the attempts that are over.
        """
        if not self._subreaper:
            return []
        return [pid for pid in _own_children() if pid not in self._pidfds and _claim_of(pid) in ended_claims]


def signal_group(pid: int, number: int) -> bool:
    """Send a signal to a process group; whether it has any members left, dead ones that wait for us apart."""
    with suppress(ChildProcessError):
        while os.waitpid(-pid, os.WNOHANG)[0]:  # orphans of the group that became ours and are dead
            pass
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):  # macOS says EPERM for a group of zombies
        return False
    return True


def kill_stray(pid: int) -> None:
    """Kill a process that escaped from its group, and its group, if it leads one."""
    with suppress(OSError):
        if os.getpgid(pid) == pid:
            os.killpg(pid, signal.SIGKILL)
        os.kill(pid, signal.SIGKILL)
    with suppress(ChildProcessError):
        os.waitpid(pid, 0)


def in_main_thread() -> bool:
    """Whether this thread may install signal handlers."""
    return threading.current_thread() is threading.main_thread()


def _pidfd_open(pid: int) -> int:
    if not hasattr(os, "pidfd_open"):
        return -1
    try:
        return os.pidfd_open(pid)
    except OSError:  # an older kernel, or out of file descriptors
        return -1


def _bytes(max_rss: int) -> int:
    # getrusage(2): kilobytes, but bytes on macOS.
    return max_rss if sys.platform == "darwin" else max_rss * 1024


def _become_subreaper() -> bool:
    if not sys.platform.startswith("linux"):
        return False
    try:
        import ctypes  # noqa: PLC0415 - only a pilot needs it

        return bool(ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)
    except (OSError, AttributeError, ImportError):
        return False


def _own_children() -> list[int]:
    # A process that nobody waits for is handed to the main thread, whose id is the process's.
    try:
        with open(f"/proc/self/task/{os.getpid()}/children", "rb") as file:
            return [int(pid) for pid in file.read().split()]
    except OSError:  # a kernel without CONFIG_PROC_CHILDREN
        return []


def _claim_of(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            for entry in file.read().split(b"\0"):
                if entry.startswith(b"PICAS_CLAIM="):
                    return entry[12:].decode("ascii", "replace")
    except OSError:
        pass
    return ""
