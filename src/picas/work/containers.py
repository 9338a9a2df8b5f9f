"""Commands of tokens that run in containers: the command lines of Apptainer, Singularity and Docker.

The attempt's directory is there under the path that it has outside, so that ``$PICAS_OUTPUT`` and the working directory
mean the same, and what the work writes belongs to the user. With Apptainer the work is a process of the attempt's own. With
Docker it is one of a server's, which only hears of signals; so its container has a name, by which it is removed.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from picas.errors import InvalidInput
from picas.programs import find

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

RUNTIMES = ("apptainer", "singularity", "docker")
"""What can run containers, of each kind the one first that is preferred."""

OF_FILES = RUNTIMES[:2]
"""Those whose containers are processes of the caller's own, and whose images may be files."""

SERVED = RUNTIMES[2:]
"""Those whose containers are processes of a server's."""

SCHEMES = ("docker://", "docker-archive:", "docker-daemon:", "library://", "oras://", "oci:", "oci-archive:")
"""What the names of images begin with that Apptainer fetches or converts."""

REMOVE_SECONDS = 60.0
"""How long a server of containers may take to remove one."""

_CLEAN = frozenset(("-e", "--cleanenv", "-C", "--containall", "-c", "--contain"))
"""Options of Apptainer with which the environment of the caller may not be seen inside."""

_SHELL = 'command -v bash >/dev/null 2>&1 && exec bash -c "$1"; exec sh -c "$1"'
"""Small images have no bash."""


class Container:
    """The image that all commands of a pilot run in.

    Args:
        image: a file such as ``fits.sif`` or a sandbox directory, for Apptainer; a name such as ``python:3.12`` for
            Docker; a URL such as ``docker://python:3.12`` for Apptainer.
        options: options of the runtime, each one argument, such as ``--nv`` or ``--bind=/data``.
        runtime: one of `RUNTIMES`; "" for the first on this machine that takes such an image.

    Raises:
        InvalidInput: there is no such image or runtime; no token was touched.
    """

    def __init__(self, image: str, options: Sequence[str] = (), runtime: str = "") -> None:
        if not image or image.startswith("-") or not image.isprintable():
            raise InvalidInput(f"'{image}' is no image", "Write one such as fits.sif or python:3.12.")
        if runtime and runtime not in RUNTIMES:
            raise InvalidInput(
                f"there is no container runtime '{runtime}'", f"Choose one of: {', '.join(RUNTIMES)}."
            )
        for option in options:
            if not option.startswith("-"):
                raise InvalidInput(
                    f"--container-option: '{option}' is no option",
                    "Write it as one word, such as --container-option=--bind=/data.",
                )
        is_url = image.startswith(SCHEMES)
        is_file = not is_url and (image.endswith(".sif") or image.startswith(("/", "./", "../")))
        if is_file and not Path(image).exists():
            raise InvalidInput(f"there is no image {image}", "Check its path. No token was touched.")
        wanted: tuple[str, ...] = OF_FILES if is_url or is_file else (*SERVED, *OF_FILES)
        if runtime:
            if runtime not in wanted:
                raise InvalidInput(
                    f"{runtime} cannot run {image}", "Give it the name of an image: python:3.12."
                )
            wanted = (runtime,)
        name = next((each for each in wanted if shutil.which(each)), "")
        if not name:
            raise InvalidInput(
                f"there is no {' or '.join(wanted)} on this machine, to run {image} in",
                "Check PATH; on clusters it may be in a module. No token was touched.",
            )
        self.runtime = name
        self._program = find(name)
        self._options = tuple(options)
        is_name = not (is_url or is_file)
        self._image = str(Path(image).absolute()) if is_file else image
        if is_name and name in OF_FILES:
            self._image = f"docker://{image}"
        self._place = str(Path.cwd())

    @property
    def is_served(self) -> bool:
        """Whether the work is no process of ours, but of a server of containers."""
        return self.runtime in SERVED

    def shell(self, script: str) -> list[str]:
        """The command for a script within the image."""
        return ["/bin/sh", "-c", _SHELL, "sh", script]

    def argv(
        self, command: Sequence[str], directory: str, work: str, claim: str, told: Iterable[str]
    ) -> list[str]:
        """The command line that runs a command in the container.

        Args:
            command: a program with a relative path is one of the user's: the folder that the pilot was started in
                is then there too, to be read.
            directory: the attempt's.
            work: the working directory, in it.
            claim: by which the container is found again.
            told: the environment variables that tell the work of its token.
        """
        places = [(directory, "")]
        if command and command[0].startswith(("./", "../")):
            places.insert(0, (self._place, ":ro"))  # before what may be in it
            command = [os.path.normpath(f"{self._place}/{command[0]}"), *command[1:]]
        if not self.is_served:
            binds = [part for path, mode in places for part in ("--bind", f"{path}:{path}{mode}")]
            return [self._program, "exec", *binds, "--pwd", work, *self._options, self._image, *command]
        volumes = [part for path, mode in places for part in ("--volume", f"{path}:{path}{mode}")]
        return [
            self._program,
            "run",
            "--rm",
            "--init",
            "--name",
            f"picas-{claim}",
            "--user",
            f"{os.getuid()}:{os.getgid()}",
            *volumes,
            "--workdir",
            work,
            "--env",
            f"HOME={work}",  # whoever the user is, the image knows of no such
            # By name alone: the values are for nobody who lists processes.
            *(part for each in sorted(told) for part in ("--env", each)),
            *self._options,
            self._image,
            *command,
        ]

    def environment(self, told: Mapping[str, str]) -> dict[str, str]:
        """What the runtime's own environment needs besides, so that the work is told of its token."""
        if self.is_served or not _CLEAN.intersection(self._options):
            return {}
        prefix = "APPTAINERENV_" if self.runtime == "apptainer" else "SINGULARITYENV_"
        return {prefix + name: value for name, value in told.items()}

    def remove(self, claim: str) -> None:
        """Remove a container that may still be there, because what had started it was killed; else nothing happens."""
        import subprocess  # noqa: PLC0415 - start-up of the help

        if not self.is_served:
            return
        with suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run(
                [self._program, "rm", "--force", f"picas-{claim}"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=REMOVE_SECONDS,
                check=False,
            )

    def complaint(self, exit_code: int, words: Sequence[str]) -> str:
        """What the runtime itself says, if it is that which failed, and not the work in it; else "".

        Args:
            words: the last lines of the error output.
        """
        code, marks = (125, ("docker:", "Error:")) if self.is_served else (255, ("FATAL:",))  # docker-run(1)
        return next((word for word in words if exit_code == code and word.startswith(marks)), "")
