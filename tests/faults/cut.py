"""Cuts the power at every write point of a scenario, and looks what is there afterwards; run by test_crash_points.py.

Called as ``cut.py SCENARIO DIRECTORY STRIDE OFFSET [MODE]...`` with the library of faults.c loaded; works in the directory, and
says at its end, as JSON, how many rounds there were and what was wrong. Each round is a forked process that is
killed at one point, before the write there or in the middle of it, or finds the disk full there and for a while.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.faults.scenarios import SCENARIOS

from picas.errors import PicasError

if TYPE_CHECKING:
    from collections.abc import Callable

FULL = 2
"""The mode, as of faults.c, in which the disk is full."""

MANY = 5000
"""More points than any scenario has."""

FULL_FOR = 12
"""For so many points the disk stays full."""

FAULTS = ctypes.CDLL(None)


def forked(act: Callable[[Callable[[Any], None]], None]) -> tuple[int, list[Any]]:
    """Do it in a child; how that ended, and what it said."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        code = 1
        try:
            act(lambda what: os.write(write, json.dumps(what).encode() + b"\n") and None)
            code = 0
        except BaseException:  # noqa: BLE001 - said, and told by the exit code
            os.write(write, json.dumps({"traceback": traceback.format_exc()}).encode() + b"\n")
        finally:
            os._exit(code)
    os.close(write)
    with os.fdopen(read, "rb") as said:
        lines = said.read().splitlines()
    status = os.waitpid(child, 0)[1]
    return os.waitstatus_to_exitcode(status), [json.loads(line) for line in lines]


def cut(name: str, place: Path, point: int, mode: int, wanted: list[Any]) -> tuple[bool, str]:
    """One round; whether the scenario has such a point, and what is wrong afterwards."""
    prepare, act, check, _ = SCENARIOS[name]
    last = point + FULL_FOR

    def run(say: Callable[[Any], None]) -> None:
        FAULTS.faults_arm(os.fsencode(place), ctypes.c_long(point), ctypes.c_long(last), mode)
        try:
            act(place, say)
        except (PicasError, OSError) as error:
            if mode != FULL:
                raise
            say({"stopped": str(error)})
        say({"points": FAULTS.faults_points()})
        FAULTS.faults_disarm()

    prepared, told = forked(lambda say: prepare(place))
    assert prepared == 0, told
    code, said = forked(run)
    steps = [what for what in said if not isinstance(what, dict)]
    answer, told = forked(lambda say: check(place, steps, wanted))
    notes = {word: text for what in said if isinstance(what, dict) for word, text in what.items()}
    wrong = [notes[word] for word in ("traceback",) if word in notes] + (told if answer else [])
    # The journal's own error says no more than the system; its courier adds where that was.
    if name != "spool" and str(place) not in notes.get("stopped", str(place)):
        wrong.append(f"it is not said where: {notes['stopped']}")
    assert code in (0, 1, -signal.SIGKILL), code
    found = f"point {point}, mode {mode}, after {said}: {wrong}" if wrong else ""
    return notes.get("points", point) >= point, found


def main() -> None:
    """All rounds of one scenario."""
    name, base, stride, offset = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    only = sys.argv[5:]
    whole = base / "whole"
    whole.mkdir(parents=True)
    wanted = SCENARIOS[name][3](whole)
    rounds: dict[str, int] = {}
    wrong: list[str] = []
    for mode, called in enumerate(("kill", "tear", "full")):
        if only and called not in only:
            continue
        rounds[called] = 0
        for point in range(1 + offset, MANY, stride):
            place = base / f"{called}-{point}"
            place.mkdir()
            there, found = cut(name, place, point, mode, wanted)
            wrong += [found] if found else []
            shutil.rmtree(place, ignore_errors=True)
            if not there:
                break
            rounds[called] += 1
    print(json.dumps({"rounds": rounds, "number": len(wrong), "wrong": wrong[:3]}))


if __name__ == "__main__":
    main()
