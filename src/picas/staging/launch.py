"""How the pilot starts the process that stages."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from picas.errors import InfrastructureError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from picas.staging.plan import Item, Staging

# The same modules as ours, wherever they are from: a bundle, an environment, a folder.
_PROGRAM = """
import json, sys
sys.path[:] = json.loads(sys.argv.pop(1))
try:
    from picas.bundling import settle
    settle()
    from picas.staging.process import main
except ImportError as error:
    problem = f"picas is not there any more to stage files: {error}"
    with open(f"{sys.argv[1]}/staged.json", "w") as file:
        json.dump({"phase": "in", "problem": problem, "works": False, "uploads": {}}, file)
    sys.exit(74)
main()
"""

_HERE = str(Path.cwd())  # what "" in the search path means


@dataclass(frozen=True)
class Errand:
    """What is staged for one attempt.

    Attributes:
        staging: how.
        directory: the attempt's.
        work: its working directory.
        fetch, bring: what.
    """

    staging: Staging
    directory: str
    work: str
    fetch: Sequence[Item]
    bring: Sequence[Item]

    @property
    def argv(self) -> list[str]:
        """The command line of the process that stages; nothing secret is in it."""
        options = (
            ("-I", sys.flags.isolated),
            ("-S", sys.flags.no_site),
            ("-E", sys.flags.ignore_environment),
        )
        path = json.dumps([part or _HERE for part in sys.path])
        flags = [option for option, is_set in options if is_set]
        return [sys.executable, *flags, "-c", _PROGRAM, path, self.directory]

    def told(self, command: Sequence[str], hidden: Collection[str]) -> IO[bytes]:
        """What that process is told, as a file for its standard input: it fetches, runs the command, and brings away.

        The file has no name: URLs may have secrets in them.

        Args:
            hidden: variables that the command is not to see.

        Raises:
            InfrastructureError: it cannot be written.
        """
        return self._written(self.fetch, self.bring, command, hidden)

    def run_fetch(self, environment: Mapping[bytes, bytes]) -> int:
        """Fetch, here and now; the exit code."""
        return self._run(self.fetch, (), environment) if self.fetch else 0

    def run_bring(self, environment: Mapping[bytes, bytes]) -> int:
        """Bring away, here and now; the exit code."""
        return self._run((), self.bring, environment) if self.bring else 0

    def _run(self, fetch: Sequence[Item], bring: Sequence[Item], environment: Mapping[bytes, bytes]) -> int:
        with self._written(fetch, bring, (), ()) as told:
            code = subprocess.run(self.argv, stdin=told, env=environment, check=False).returncode
        return code if code >= 0 else 128 - code

    def _written(
        self,
        fetch: Sequence[Item],
        bring: Sequence[Item],
        command: Sequence[str],
        hidden: Collection[str],
    ) -> IO[bytes]:
        what: dict[str, Any] = {
            "work": self.work,
            "in": [asdict(item) for item in fetch],
            "out": [asdict(item) for item in bring],
            "argv": list(command),
            "hidden": sorted(hidden),
            "command": self.staging.command,
            "tries": self.staging.tries,
            "pauses": self.staging.pauses,
        }
        try:
            file = tempfile.TemporaryFile(dir=self.directory)  # noqa: SIM115 - the caller's
            try:
                file.write(json.dumps(what).encode("ascii"))
                file.seek(0)
            except BaseException:
                file.close()
                raise
        except OSError as error:
            raise InfrastructureError(
                f"the scratch directory {self.directory} cannot be used: {error.strerror}", of_machine=True
            ) from error
        return file
