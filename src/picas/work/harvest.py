"""What an attempt left behind: its logs, the files to attach, and what it reported."""

from __future__ import annotations

import json
import os
import re
import stat
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from picas.errors import InvalidInput
from picas.payload import Payload, capped_log, file_payload
from picas.staging import STAGED
from picas.tokens import encode_json, log_names
from picas.work.scratch import ATTACHED, OUTPUT, RAISED

if TYPE_CHECKING:
    from collections.abc import Collection

    from picas.staging.outcome import Staged
    from picas.work.scratch import Attempt

MEMORY_LOG = 1 << 16
"""A log of up to so many bytes is taken into memory, and its directory is free for another attempt."""

MAX_OUTPUT_BYTES = 64 << 20
"""The largest $PICAS_OUTPUT that is read as JSON; a larger one is only attached."""

LAST_LINE_BYTES = 2048
"""How much of the end of the error output is looked at for its last line."""


@dataclass(frozen=True)
class Harvest:
    """What was found.

    Attributes:
        logs: standard output and error output, capped.
        files: what is to be attached beside them.
        output: what the work wrote to $PICAS_OUTPUT, and what could not be attached.
        problem: what is wrong with $PICAS_OUTPUT; empty if nothing is.
        raised: message and traceback of a function in a child process that raised an exception.
        in_memory: nothing of it is in the attempt's directory any more.
        left: names of what is in that directory.
        staged: what was fetched or brought away for it; None if nothing was to be.
    """

    logs: tuple[Payload, ...]
    files: tuple[Payload, ...]
    output: dict[str, Any] | None
    problem: str
    raised: tuple[str, str]
    in_memory: bool
    left: Collection[str]
    staged: Staged | None


def harvest(attempt: Attempt, log_cap: int, collect: tuple[str, ...]) -> Harvest:
    """Look through the directory of an attempt that is over.

    Args:
        log_cap: bytes of each log that are kept.
        collect: glob patterns of files in the working directory to attach.
    """
    names = log_names(attempt.token.id)
    logs = tuple(_log(name, path, log_cap) for name, path in zip(names, (attempt.stdout, attempt.stderr)))
    files = list(attempt.files)
    left = attempt.names()
    output, problem = None, ""
    if OUTPUT in left:
        inside = _is_inside(attempt.output_file, attempt.directory)
        output, problem = _read_output(Path(attempt.output_file), inside=inside)
        if problem and inside and os.path.isfile(attempt.output_file):
            files.append(file_payload("output.json", "application/octet-stream", Path(attempt.output_file)))
            problem += "; it is attached as output.json"
    if ATTACHED in left:
        files += _attached(Path(attempt.attached))
    if collect:
        collected, refused = collected_files(attempt, collect)
        files += collected
        if refused:
            output = {**(output or {}), "picas_not_attached": refused}
    raised = _read_raised(Path(attempt.raised)) if RAISED in left else ("", "")
    in_memory = all(isinstance(part, bytes) for payload in (*logs, *files) for part in payload.parts)
    staged = None
    if STAGED in left:
        from picas.staging.outcome import read  # noqa: PLC0415 - most tokens have nothing staged

        staged = read(attempt.directory)
    return Harvest(logs, tuple(files), output, problem, raised, in_memory, left, staged)


def collected_files(attempt: Attempt, patterns: tuple[str, ...]) -> tuple[list[Payload], list[str]]:
    """The files in the working directory that match, and the names of those that match but cannot be attached."""
    work = Path(attempt.work)
    taken = log_names(attempt.token.id)
    files: list[Payload] = []
    refused: list[str] = []
    for path in _matches(work, patterns):
        name = path.relative_to(work).as_posix()
        try:
            if path.is_dir():
                continue
            name.encode()  # a name in no known encoding cannot be written down
            # A link that leads out of the directory would attach what was never made here.
            if path.is_file() and _is_inside(str(path), attempt.work) and name not in taken:
                # CouchDB keeps names that begin with "_" for itself; this is the same file, wherever it is saved.
                files.append(_payload(path, f"./{name}" if name.startswith("_") else name))
                continue
        except (OSError, UnicodeEncodeError):  # it cannot be looked at: that is for the user to know
            pass
        refused.append(name.encode("utf-8", "backslashreplace").decode())
    return files, refused


def last_lines(path: str, count: int) -> list[str]:
    """The last lines with anything in them of a text file, the very last one first, of `LAST_LINE_BYTES` at its end.

    What a terminal would take for orders, and what cannot be printed, is left out.
    """
    try:
        with open(path, "rb", opener=_open_file) as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - LAST_LINE_BYTES))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return []
    clean = ("".join(filter(str.isprintable, _ORDERS.sub("", line))).strip() for line in reversed(lines))
    return list(islice((line for line in clean if line), count))


_ORDERS = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|.)"
)  # ECMA-48: colours and the like


def _log(name: str, path: str, cap: int) -> Payload:
    try:
        info = os.lstat(path)
        if not stat.S_ISREG(info.st_mode):
            # A link would put what was never printed into the pool; a pipe would be waited for.
            return Payload(name, "text/plain", (b"[picas: this log is no longer a file]\n",))
        size = info.st_size
        if size == 0:
            return Payload(name, "text/plain", ())
        log = capped_log(name, Path(path), cap)
        return Payload(name, "text/plain", (log.read(),)) if size <= MEMORY_LOG else log
    except OSError as error:  # the work removed it, or the disk fails: say so where people look for the log
        return Payload(name, "text/plain", (f"[picas: this log cannot be read: {error}]\n".encode(),))


def _open_file(path: str, flags: int) -> int:
    """Open a file and nothing else: no link, and no pipe that would be waited for."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


def _is_inside(path: str, directory: str) -> bool:
    """Whether what is there, behind all links, is in the directory."""
    return os.path.realpath(path).startswith(os.path.realpath(directory) + os.sep)


def _read_output(path: Path, *, inside: bool) -> tuple[dict[str, Any] | None, str]:
    """What was written to $PICAS_OUTPUT, and what is wrong with it."""
    try:
        if not inside:
            return None, "$PICAS_OUTPUT is no longer a file here"
        if not path.is_file():
            return None, "$PICAS_OUTPUT is no longer a file"
        size = path.stat().st_size
        if size > MAX_OUTPUT_BYTES:
            return None, f"what was written to $PICAS_OUTPUT has {size:,} bytes"
        text = path.read_text("utf-8-sig")
        if not text.strip():
            return None, ""
        value = json.loads(text, parse_constant=_refuse_constant)
        output = value if isinstance(value, dict) else {"result": value}
        encode_json(output)  # 1e999 is read as infinity, which JSON has no word for
    except (OSError, ValueError, RecursionError, InvalidInput) as error:
        return None, f"what was written to $PICAS_OUTPUT is not JSON ({error})"
    return output, ""


def _read_raised(path: Path) -> tuple[str, str]:
    try:
        told = json.loads(path.read_text("utf-8"))
        return str(told["message"]), str(told["exception"])
    except (OSError, ValueError, KeyError, TypeError):  # cut short by a full disk; the log has the rest
        return "", ""


def _attached(directory: Path) -> list[Payload]:
    """What a function in a child process attached, see `picas.work.functions`."""
    try:
        index = json.loads((directory / "index.json").read_text("utf-8"))
        return [
            file_payload(entry["name"], entry["content_type"], directory / str(number))
            for number, entry in enumerate(index)
        ]
    except (OSError, ValueError):  # it was stopped before they were all there
        return []


def _matches(work: Path, patterns: tuple[str, ...]) -> list[Path]:
    found: set[Path] = set()
    for pattern in patterns:
        with suppress(OSError):  # a directory that cannot be read
            found.update(work.glob(pattern))
    return sorted(found)


def _payload(path: Path, name: str) -> Payload:
    import mimetypes  # noqa: PLC0415 - reads the system's tables, and most attempts collect nothing

    return file_payload(name, mimetypes.guess_type(name)[0] or "application/octet-stream", path)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")
