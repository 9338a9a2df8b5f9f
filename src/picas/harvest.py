"""What an attempt left behind: its logs, the files to attach, and what it reported."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from picas.payload import Payload, capped_log, file_payload
from picas.tokens import log_names

if TYPE_CHECKING:
    from picas.scratch import Attempt

MEMORY_LOG = 1 << 16
"""A log of up to so many bytes is taken into memory, and its directory is free for another attempt."""

MAX_OUTPUT_BYTES = 64 << 20
"""The largest $PICAS_OUTPUT that is read as JSON; a larger one is only attached."""

LAST_LINE_BYTES = 4096
"""How much of the end of the error output is looked at for its last line."""


@dataclass(frozen=True)
class Harvest:
    """What was found.

    Attributes:
        logs: standard output and error output, capped.
        files: what is to be attached beside them.
        output: what the work wrote to $PICAS_OUTPUT, and what could not be attached.
        problem: what is wrong with $PICAS_OUTPUT; empty if nothing is.
        in_memory: nothing of it is in the attempt's directory any more.
    """

    logs: tuple[Payload, ...]
    files: tuple[Payload, ...]
    output: dict[str, Any] | None
    problem: str
    in_memory: bool


def harvest(attempt: Attempt, log_cap: int, collect: tuple[str, ...]) -> Harvest:
    """Look through the directory of an attempt that is over.

    Args:
        log_cap: bytes of each log that are kept.
        collect: glob patterns of files in the working directory to attach.
    """
    names = log_names(attempt.token.id)
    logs = tuple(_log(name, path, log_cap) for name, path in zip(names, (attempt.stdout, attempt.stderr)))
    files = list(attempt.files)
    output, problem = None, ""
    if os.path.lexists(attempt.output_file):
        output, problem = _read_output(Path(attempt.output_file))
        if problem:
            files.append(file_payload("output.json", "application/octet-stream", Path(attempt.output_file)))
    if os.path.lexists(attempt.attached):
        files += _tree(Path(attempt.attached))
    if collect:
        collected, refused = _collect(Path(attempt.work), collect, set(names))
        files += collected
        if refused:
            output = {**(output or {}), "picas_not_attached": refused}
    in_memory = all(isinstance(part, bytes) for payload in (*logs, *files) for part in payload.parts)
    return Harvest(logs, tuple(files), output, problem, in_memory)


def last_line(path: str) -> str:
    """The last line with anything in it of a text file, at most `LAST_LINE_BYTES` of it; "" if there is none."""
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - LAST_LINE_BYTES))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _log(name: str, path: str, cap: int) -> Payload:
    try:
        size = os.stat(path).st_size
        if size == 0:
            return Payload(name, "text/plain", ())
        log = capped_log(name, Path(path), cap)
        return Payload(name, "text/plain", (log.read(),)) if size <= MEMORY_LOG else log
    except OSError as error:  # the work removed it, or the disk fails: say so where people look for the log
        return Payload(name, "text/plain", (f"[picas: this log cannot be read: {error}]\n".encode(),))


def _read_output(path: Path) -> tuple[dict[str, Any] | None, str]:
    """What was written to $PICAS_OUTPUT, and what is wrong with it."""
    attached = "; it is attached as output.json"
    try:
        size = path.stat().st_size
        if size > MAX_OUTPUT_BYTES:
            return None, f"what was written to $PICAS_OUTPUT has {size:,} bytes{attached}"
        text = path.read_text("utf-8")
        if not text.strip():
            return None, ""
        value = json.loads(text, parse_constant=_refuse_constant)
    except (OSError, ValueError, RecursionError) as error:
        return None, f"what was written to $PICAS_OUTPUT is not JSON ({error}){attached}"
    return (value if isinstance(value, dict) else {"result": value}), ""


def _tree(root: Path) -> list[Payload]:
    return [_payload(path, root) for path in sorted(root.rglob("*")) if path.is_file()]


def _collect(work: Path, patterns: tuple[str, ...], taken: set[str]) -> tuple[list[Payload], list[str]]:
    """The files that match, and the names of those that match but cannot be attached."""
    files: list[Payload] = []
    refused: list[str] = []
    root = os.path.realpath(work) + os.sep
    for path in sorted({path for pattern in patterns for path in work.glob(pattern)}):
        name = path.relative_to(work).as_posix()
        if path.is_dir():
            continue
        # A link that leads out of the directory would attach what was never made here.
        if path.is_file() and os.path.realpath(path).startswith(root) and name not in taken:
            files.append(_payload(path, work))
        else:
            refused.append(name)
    return files, refused


def _payload(path: Path, root: Path) -> Payload:
    import mimetypes  # noqa: PLC0415 - reads the system's tables, and most attempts collect nothing

    name = path.relative_to(root).as_posix()
    return file_payload(name, mimetypes.guess_type(name)[0] or "application/octet-stream", path)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")
