"""Child processes of a pilot: waiting for many at once, stopping whole groups, leaving none behind.

Every attempt's process leads a session, and so a process group, of its own. Its end is noticed through a
pidfd (Linux 5.3, Python 3.9), elsewhere through SIGCHLD. What a command leaves in its group is stopped
with it. What escapes from the group (a daemon) becomes the pilot's own child, since the pilot is a
subreaper (prctl(2), Linux 3.4), and is found there by the claim id in its environment or, where a function
forked it, in its name.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection
    from types import TracebackType

POLL_SECONDS = 0.02
"""How often the children are asked for where no event tells of their end."""

ORPHAN_SECONDS = 10.0
"""How long a dead orphan of unknown origin is left alone: it might be a child that our own caller waits for."""

SWEEPS = 20
"""How often in a row strays are looked for: what a killed one leaves behind turns up the next time."""

KILL_SECONDS = 1.0
"""How long a killed stray is waited for."""

NAME_MARK = "picas-"
"""What the process name of a forked function begins with; the beginning of its claim id follows."""

_NAME_CLAIM = 9
"""Digits of the claim id in a process name, which has room for 15 characters (prctl(2), PR_SET_NAME)."""

_PR_SET_CHILD_SUBREAPER = 36

_running_claims: set[str] = set()  # of all pilots in this process: none takes another's children for strays
_subreapers = 0  # how many pilots in this process want it to be one
_subreapers_lock = threading.Lock()


@dataclass(frozen=True)
class Ended:
    """A child that ended.

    Attributes:
        exit_code: as shells give it: 128+n for one that signal n killed; None if somebody else in this
            process has waited for it, so that nobody here will ever know.
        signal: the signal that killed it, if one did.
        cpu, max_rss: CPU seconds and peak resident bytes of it and the children it waited for.
    """

    pid: int
    exit_code: int | None
    signal: int | None
    cpu: float
    max_rss: int


class Children:
    """The running children of this pilot, and a bell that wakes it.

    Attributes:
        needs_signal: only SIGCHLD tells at once that a child ended.
    """

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._bell, self._clapper = socket.socketpair()
        self._bell.setblocking(False)
        self._clapper.setblocking(False)
        self._selector.register(self._bell, selectors.EVENT_READ)
        self._pidfds: dict[int, int] = {}  # pid → pidfd, −1 where there is none
        probe = _pidfd_open(os.getpid())
        self.needs_signal = probe < 0
        if probe >= 0:
            os.close(probe)
        self._zombies: dict[int, float] = {}  # dead orphans of unknown origin → when first seen
        self._sweeping = threading.Lock()
        self._subreaper = _change_subreapers(+1)

    def __enter__(self) -> Children:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pidfd in self._pidfds.values():
            if pidfd >= 0:
                os.close(pidfd)
        self._selector.close()
        self._bell.close()
        self._clapper.close()
        _change_subreapers(-1)

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
        known = True
        try:
            found, status, usage = os.wait4(pid, os.WNOHANG)
        except ChildProcessError:  # somebody else in this process has waited for it
            found, status, usage, known = pid, 0, None, False
        if not found:
            return None
        pidfd = self._pidfds.pop(pid)
        if pidfd >= 0:
            self._selector.unregister(pidfd)
            os.close(pidfd)
        killer = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
        code = os.WEXITSTATUS(status) if killer is None else 128 + killer
        cpu = usage.ru_utime + usage.ru_stime if usage else 0.0
        return Ended(pid, code if known else None, killer, cpu, _bytes(usage.ru_maxrss) if usage else 0)

    # --- What escapes ---

    def expect(self, claim: str) -> None:
        """From now on processes with this claim id are at work."""
        _running_claims.add(claim)

    def sweep(self, ended: str = "") -> None:
        """Kill what outlived its attempt in a session of its own, and what that leaves behind in turn.

        From any thread.

        Args:
            ended: the claim id of an attempt that is over now.
        """
        _running_claims.discard(ended)
        if not self._subreaper:
            return
        with self._sweeping:
            for _ in range(SWEEPS):
                strays = [pid for pid in _own_children() if pid not in self._pidfds and self._is_stray(pid)]
                if not strays:
                    return
                for pid in strays:
                    _kill_stray(pid)

    def _is_stray(self, pid: int) -> bool:
        if pid in self._zombies:
            self._bury(pid)
            return False
        claim = _claim_of(pid)
        if claim:
            return not any(running.startswith(claim) for running in _running_claims)
        if _is_dead_stranger(pid):
            self._zombies[pid] = time.monotonic()
        return False

    def _bury(self, pid: int) -> None:
        if time.monotonic() - self._zombies[pid] < ORPHAN_SECONDS:
            return
        del self._zombies[pid]
        if _is_dead_stranger(pid):
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)


def signal_group(pid: int, number: int) -> bool:
    """Send a signal to a process group; whether it has any members, dead ones that nobody has waited for included."""
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):  # macOS says EPERM for a group of zombies
        return False
    return True


def started() -> set[int]:
    """The children of this process, dead ones that nobody has waited for included."""
    found = _children_of(os.getpid())
    return set(_below([os.getpid()], deep=False)) if found is None else set(found)


def living_below(spared: set[int]) -> set[int]:
    """The living processes that this one has started, and what they have started in turn.

    Args:
        spared: children that are not meant, nor what they have started.
    """
    return {
        pid for pid in _below([pid for pid in started() if pid not in spared], deep=True) if not _is_dead(pid)
    }


def _below(roots: list[int], *, deep: bool) -> list[int]:
    """The processes below these; with ``deep`` all the way down, and with these."""
    parents: dict[int, int] | None = None
    found: list[int] = []
    todo = list(roots)
    while todo:
        pid = todo.pop()
        below = _children_of(pid)
        if below is None:
            parents = _parents_by_ps() if parents is None else parents
            below = [child for child, parent in parents.items() if parent == pid]
        if not deep:
            return below
        found.append(pid)
        todo += below
    return found


def _children_of(pid: int) -> list[int] | None:
    """The children of a process, none if it is gone; None where the system does not tell."""
    if not os.path.lexists(f"/proc/self/task/{os.getpid()}/children"):
        return None
    found: list[int] = []
    with suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with suppress(OSError), open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
                found += map(int, file.read().split())
    return found


def _is_dead(pid: int) -> bool:
    """Whether it is gone, or waits only for somebody to ask how it ended."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] in b"ZX"  # proc(5): pid (name) state …
    except FileNotFoundError:
        return os.path.lexists("/proc/self/stat")  # else ps has just told that it lives
    except OSError:
        return True


def _parents_by_ps() -> dict[int, int]:
    """All living processes, each with its parent."""
    import subprocess  # noqa: PLC0415 - only where the system does not tell otherwise

    told = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid=,state="], stdout=subprocess.PIPE, text=True, check=True
    )
    rows = (line.split() for line in told.stdout.splitlines())
    return {int(pid): int(parent) for pid, parent, state in rows if not state.startswith("Z")}


def kill_left_over(claims: Collection[str]) -> None:
    """Kill what the attempts of these claims have left running on this machine, since nobody looks after it."""
    if not os.path.lexists("/proc/self/environ"):
        return
    for name in os.listdir("/proc"):
        found = _claim_of(int(name)) if name.isdigit() else ""
        if found and any(claim.startswith(found) for claim in claims):
            _kill_stray(int(name))


def group_lives(pid: int) -> bool:
    """Whether a group whose leader has ended, and has been waited for, has any members left."""
    with suppress(ChildProcessError):
        while os.waitpid(-pid, os.WNOHANG)[0]:  # orphans of the group that became ours and are dead
            pass
    return signal_group(pid, 0)


def name_process(claim: str) -> None:
    """Let this forked process be found by its name: its environment, as others see it, is still its parent's."""
    with suppress(OSError), open("/proc/self/comm", "w", encoding="ascii") as file:
        file.write(NAME_MARK + claim[:_NAME_CLAIM])


def _kill_stray(pid: int) -> None:
    """Kill a process that escaped from its group, and its group, if it leads one."""
    with suppress(OSError):
        if os.getpgid(pid) == pid:
            os.killpg(pid, signal.SIGKILL)
        os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + KILL_SECONDS
    with suppress(ChildProcessError):
        while not os.waitpid(pid, os.WNOHANG)[0] and time.monotonic() < deadline:
            time.sleep(0.002)


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


def _change_subreapers(change: int) -> bool:
    """Count a pilot of this process in or out; whether orphans come to this process now."""
    global _subreapers  # noqa: PLW0603 - it is the process that is a subreaper, not one pilot of it
    if not sys.platform.startswith("linux"):
        return False
    with _subreapers_lock:
        _subreapers += change
        try:
            import ctypes  # noqa: PLC0415 - only a pilot needs it

            wanted = int(_subreapers > 0)
            answer = ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, wanted, 0, 0, 0)
        except (OSError, AttributeError, ImportError):
            return False
        return bool(wanted and answer == 0)


def _own_children() -> list[int]:
    # A process that nobody waits for is handed to the main thread, whose id is the process's.
    try:
        with open(f"/proc/self/task/{os.getpid()}/children", "rb") as file:
            return [int(pid) for pid in file.read().split()]
    except OSError:  # a kernel without CONFIG_PROC_CHILDREN
        return []


def _claim_of(pid: int) -> str:
    """The claim id, or its beginning, that a process carries; "" if none, or only that of an attempt we run in."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            for entry in file.read().split(b"\0"):
                if entry.startswith(b"PICAS_CLAIM="):
                    claim = entry[12:].decode("ascii", "replace")
                    return "" if claim == os.environ.get("PICAS_CLAIM") else claim
        with open(f"/proc/{pid}/comm", encoding="ascii", errors="replace") as name:
            return _claim_in(name.read())
    except OSError:
        return ""


def _claim_in(name: str) -> str:
    name = name.rstrip("\n")
    return name[len(NAME_MARK) :] if name.startswith(NAME_MARK) else ""


def _is_dead_stranger(pid: int) -> bool:
    """Whether a child is dead, not waited for, and of another session than we."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # proc(5): pid (name) state ppid pgrp session …
            state, _, _, session = file.read().rpartition(b")")[2].split()[:4]
    except (OSError, ValueError):
        return False
    return state == b"Z" and int(session) != os.getsid(0)
