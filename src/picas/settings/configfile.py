"""Changing the configuration file: single settings, with everything else in it left as it is written."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Union

from picas.errors import ConfigError
from picas.settings import config
from picas.settings.credentials import write_private

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

Setting = Union[str, bool, None]
"""A value in the file; None for a setting that it does not have."""

_HEADER = re.compile(r"\s*\[")
_TABLE = re.compile(r"\s*\[\s*([A-Za-z0-9_-]+)\s*\]\s*(?:#.*)?")


def change(path: Path, changes: Mapping[str, Setting]) -> None:
    """Set these settings in the file, which is made if it is not there, and closed to others.

    Args:
        changes: values by name, with the table before a dot: ``{"couchdb.username": "me"}``. None takes a
            setting out.

    Raises:
        ConfigError: the file cannot be read or written, or has a form that only its author can change.
    """
    stage(path, changes).replace(path.resolve())


def stage(path: Path, changes: Mapping[str, Setting]) -> Path:
    """Write the changed file beside the one that is there; it only remains to be renamed.

    It is on the disk when this returns. `path` may be a link: its target is what is changed.

    Raises:
        ConfigError: as for `change`.
    """
    target = path.resolve()
    new = target.with_name(target.name + ".new")
    try:
        old = target.read_text("utf-8") if target.exists() else ""
        text = _changed(path, old, changes)
        target.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            new.unlink()
        write_private(new, text.encode())
    except (OSError, UnicodeError) as error:
        raise ConfigError(
            f"{path} cannot be written: {error}", "Check the folder's permissions and the space on its disk."
        ) from error
    return new


def _changed(path: Path, text: str, changes: Mapping[str, Setting]) -> str:
    """The text with these settings.

    Raises:
        ConfigError: the file has them in a form that is not changed line by line.
    """
    wanted = config.parse(path, text)
    lines = text.splitlines()
    for name, value in changes.items():
        table, _, key = name.rpartition(".")
        _set_line(lines, table, key, value)
        _set_value(wanted.setdefault(table, {}) if table else wanted, key, value)
    changed = "\n".join(lines) + "\n"
    try:
        is_right = _without_empty(config.parse(path, changed)) == _without_empty(wanted)
    except ConfigError:
        is_right = False
    if not is_right:
        shown = [name for name in changes if name != "couchdb.password"]
        raise ConfigError(
            f"{path} is written in a way that only its author can change", f"Set by hand: {', '.join(shown)}."
        )
    return changed


def _set_value(table: dict[str, Any], key: str, value: Setting) -> None:
    if value is None:
        table.pop(key, None)
    else:
        table[key] = value


def _set_line(lines: list[str], table: str, key: str, value: Setting) -> None:
    """Put the setting's line where it belongs, in place of one that is there."""
    first, end = _place(lines, table)
    line = None if value is None else f"{key} = {_written(value)}"
    written = re.compile(rf'\s*"?{re.escape(key)}"?\s*=')
    there = [number for number in range(first, end) if written.match(lines[number])]
    if there:
        lines[there[0] : there[0] + 1] = [] if line is None else [line]
    elif line is not None:
        while end > first and not lines[end - 1].strip():
            end -= 1  # blank lines belong to what follows
        lines.insert(end, line)


def _place(lines: list[str], table: str) -> tuple[int, int]:
    """Where a table's lines begin and end; one that is not there is added."""
    headers = [number for number, line in enumerate(lines) if _HEADER.match(line)] + [len(lines)]
    if not table:
        return 0, headers[0]
    for start, end in zip(headers, headers[1:]):
        name = _TABLE.fullmatch(lines[start])
        if name and name[1] == table:
            return start + 1, end
    lines.extend(["", f"[{table}]"] if lines else [f"[{table}]"])
    return len(lines), len(lines)


def _written(value: Setting) -> str:
    """TOML's form: of a string JSON's, but for DEL, which must be written out."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _without_empty(table: Mapping[str, Any]) -> dict[str, Any]:
    """The content, whether or not there is a header for a table without any."""
    return {key: value for key, value in table.items() if value != {}}
