"""Start the pilots of a script on this machine, in the background: ``local_start SCRIPT``.

It does for this machine what sbatch does for a cluster, prints the job's id, and is over: the pilots are left to themselves, in
sessions of their own, so that they outlive the terminal. A program of its own, see `picas.launchers.local.own_program`.

What `local_jobs.sh` needs to know is in ``~/.local/state/picas/local/<job>/``: of the pilot N, ``N.pid``, and once it has
ended ``N.exit`` with its exit code.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

MARK = "#PICAS "
"""Lines that begin with it have options, as those with ``#SBATCH`` have in a script for Slurm."""

KEPT_SECONDS = 30 * 86_400
"""How long it is known of pilots how they ended."""

# The shell stays until the pilot has gone, to note how; a signal is for the whole group and does not end the shell.
KEEPER = 'trap : HUP INT TERM; bash "$0"; echo $? >"$1.new" && mv "$1.new" "$1"'


class CannotStart(Exception):
    """No pilot runs; the text says why."""


def read_options(script: Path) -> argparse.Namespace:
    """What the script's own lines say."""
    parser = argparse.ArgumentParser(prog=str(script), usage=f"{MARK}--OPTION=VALUE", add_help=False)
    parser.add_argument("--name", default="picas")
    parser.add_argument("--pilots", type=int, default=1)
    parser.add_argument("--directory", type=Path, default=Path())
    words: list[str] = []
    for line in script.read_text("utf-8").splitlines():
        if line.startswith(MARK):
            words += shlex.split(line[len(MARK) :])
    return parser.parse_args(words)


def state_root() -> Path:
    """Where it is noted what was started; local_jobs.sh looks in the same place."""
    home = os.environ.get("XDG_STATE_HOME")
    return (Path(home) if home else Path.home() / ".local/state") / "picas/local"


def make_folder(root: Path) -> Path:
    """A folder for a new job; its name is the job's id."""
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    while True:
        folder = root / time.strftime(f"%y%m%d-%H%M%S-{os.getpid()}")
        try:
            folder.mkdir(mode=0o700)
        except FileExistsError:  # another machine's, with the same home directory
            time.sleep(1)
        else:
            return folder


def forget_old(root: Path) -> None:
    """Remove what is known of pilots that ended long ago."""
    for folder in root.iterdir():
        ended = {path.stem for path in folder.glob("*.exit")}
        old = time.time() - folder.stat().st_mtime > KEPT_SECONDS
        if old and all(path.stem in ended for path in folder.glob("*.pid")):
            shutil.rmtree(folder, ignore_errors=True)


def start(script: Path, options: argparse.Namespace) -> str:
    """Start all pilots, or none; the job's id."""
    root = state_root()
    folder = make_folder(root)
    copy = folder / "script"
    shutil.copyfile(script, copy)
    # A shell ignores them for what it has put into the background, and so would the pilots and their work.
    for ignored in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_DFL)
    started: list[int] = []
    try:
        for number in range(1, options.pilots + 1):
            started.append(start_one(copy, number, options))
            (folder / f"{number}.pid").write_text(f"{started[-1]}\n")
    except OSError as error:
        for pid in started:
            os.killpg(pid, signal.SIGTERM)
        raise CannotStart(
            f"pilot {len(started) + 1} of {options.pilots} cannot be started: {error}"
        ) from error
    forget_old(root)
    return folder.name


def start_one(script: Path, number: int, options: argparse.Namespace) -> int:
    """Start a pilot; the id of its process group."""
    log = options.directory / f"{options.name}-{script.parent.name}_{number}.out"
    with log.open("ab") as output:
        keeper = subprocess.Popen(
            ["bash", "-c", KEEPER, str(script), str(script.with_name(f"{number}.exit"))],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=options.directory,
            start_new_session=True,
        )
    keeper.returncode = 0  # it is not waited for
    return keeper.pid


def main(args: list[str]) -> int:
    """Do it; the exit code."""
    script = Path(args[0]).absolute()
    try:
        job = start(script, read_options(script))
    except (OSError, ValueError, RuntimeError, CannotStart) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{job}\n")
    return 0
