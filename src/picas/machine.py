"""This machine as others of its processes know it: its name, its clock since start, and which processes live."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any


def clock() -> tuple[str, float]:
    """Which start of this machine this is, and the seconds since: no setting of the clock changes that.

    Sleep counts. Where the system does not tell which start it is (other than Linux), "" and Unix seconds.

    Source: proc(5), ``/proc/sys/kernel/random/boot_id``; clock_gettime(2), ``CLOCK_BOOTTIME``.
    """
    boot = _boot_id()
    if boot and hasattr(time, "CLOCK_BOOTTIME"):
        return boot, time.clock_gettime(time.CLOCK_BOOTTIME)
    return "", time.time()


def this_process() -> dict[str, Any]:
    """What tells this process from all others that ever ran: empty where the system does not say."""
    namespace = _namespace()
    begun = _begun(os.getpid())
    if not (_boot_id() and namespace and begun):
        return {}
    here = {"boot": _boot_id(), "namespace": namespace, "user": os.getuid()}
    return {**here, "pid": os.getpid(), "begun": begun}


def is_gone(process: object) -> bool:
    """Whether the process that was so described by `this_process` ran here and is over: False where that is not sure."""
    if not isinstance(process, dict) or not process.get("boot") or process["boot"] != _boot_id():
        return False
    if process.get("namespace") != _namespace() or not isinstance(process.get("pid"), int):
        return False
    if (
        process.get("user") != os.getuid()
    ):  # some systems hide the processes of other users (proc(5), hidepid)
        return False
    return _begun(process["pid"]) != process.get("begun")


@cache
def _boot_id() -> str:
    with suppress(OSError), open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()
    return ""


@cache
def _namespace() -> str:
    """The process numbers' namespace (pid_namespaces(7)): the same number in another one is another process."""
    with suppress(OSError):
        return str(Path("/proc/self/ns/pid").readlink())
    return ""


def _begun(pid: int) -> int | None:
    """When a process was started, in clock ticks since the machine was; None if it is gone, or a zombie."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # proc(5): pid (name) state …; starttime is the 22nd, so the 20th after the name.
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] in b"ZX" else int(fields[19])
