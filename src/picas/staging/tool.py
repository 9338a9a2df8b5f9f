"""A user's own command that copies: rclone, gfal-copy, globus-url-copy."""

from __future__ import annotations

import subprocess
import tempfile
from typing import TYPE_CHECKING

from picas.programs import start_error
from picas.staging import places
from picas.staging.transfer import TransferError
from picas.text import template

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from picas.staging.places import Place
    from picas.staging.plan import Item
    from picas.staging.transfer import Partial

SAID_BYTES = 2000
"""How much of the end of what it printed is looked at."""


class Tool:
    """Carries by a command, which has done so if it ends with exit code 0.

    Args:
        argv: with ``{source}`` and ``{destination}`` in it, or ``{source_url}`` and ``{destination_url}``, which have
            ``file://`` before the path of the file that is here.
    """

    def __init__(self, argv: Sequence[str]) -> None:
        self._argv = argv

    def get(self, place: Place, item: Item, partial: Partial) -> None:
        """Fetch a file; see `picas.staging.transfer.Carrier`."""
        partial.drop()  # some do not write over a file that is there
        self._run(
            source=place.url,
            source_url=_as_url(place),
            destination=str(partial.path),
            destination_url=partial.path.as_uri(),
        )

    def put(self, place: Place, item: Item, source: Path) -> Mapping[str, str]:
        """Bring a file there; see `picas.staging.transfer.Carrier`."""
        self._run(
            source=str(source),
            source_url=source.as_uri(),
            destination=place.url,
            destination_url=_as_url(place),
        )
        return {}

    def _run(self, **fields: str) -> None:
        argv = template.render_argv(self._argv, fields)
        with tempfile.TemporaryFile() as said:
            try:
                ended = subprocess.run(
                    argv, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT, check=False
                )
            except (OSError, ValueError) as error:
                problem = start_error(argv, error)
                raise TransferError(problem.message, problem.advice) from None
            said.seek(max(0, said.seek(0, 2) - SAID_BYTES))
            lines = said.read().decode("utf-8", "replace").strip().splitlines()
        if ended.returncode == 0:
            return
        code = ended.returncode
        how = f"exit code {code}" if code >= 0 else f"killed by signal {-code}"
        last = places.without_secrets(lines[-1].strip())[:300] if lines else ""
        raise TransferError(f"{argv[0]} failed ({how})" + (f": {last}" if last else ""), again=True)


def _as_url(place: Place) -> str:
    return f"file://{place.path}" if place.scheme == places.FILE else place.url
