"""Programs that stand in for Docker and Apptainer on PATH: they note how they were called, and run the command here.

No image is looked at. Docker's containers are run by a server, which is told what to do by a program that passes signals
on; the one that stands in for it has its work run by a process in another session, which only ``docker rm`` ends for sure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

NOTE = """#!/bin/bash
here=$(dirname "$0")
printf '%s\\n' "$@" -- >> "$here/$(basename "$0").log"
"""

APPTAINER = """
shift
while [ $# -gt 0 ]; do
  case "$1" in
    --bind) shift 2;;
    --pwd) cd "$2"; shift 2;;
    --cleanenv)
      while IFS= read -r name; do unset "$name"; done < <(compgen -e | grep '^PICAS_')
      while IFS= read -r name; do export "${name#APPTAINERENV_}=${!name}"; done < <(compgen -e | grep '^APPTAINERENV_')
      shift;;
    -*) shift;;
    *) break;;
  esac
done
[ "$1" != "docker://no/such" ] || { echo 'FATAL:   Unable to handle docker://no/such uri' >&2; exit 255; }
shift
exec "$@"
"""

DOCKER = """
if [ "$1" = rm ]; then
  [ ! -e "$here/$3.pid" ] || kill -KILL -- "-$(cat "$here/$3.pid")"
  exit 0
fi
shift
told=("PATH=$PATH")
while [ $# -gt 0 ]; do
  case "$1" in
    --name) name=$2; shift 2;;
    --workdir) cd "$2"; shift 2;;
    --env) case "$2" in *=*) told+=("$2");; *) told+=("$2=${!2}");; esac; shift 2;;
    --volume|--user|--userns) shift 2;;
    -*) shift;;
    *) break;;
  esac
done
[ "$1" != no/such ] || { echo "docker: Error response from daemon: no such image" >&2; exit 125; }
shift
setsid env -i "${told[@]}" "$@" &
echo $! > "$here/$name.pid"
trap 'kill -TERM $!' TERM
trap 'kill -USR1 $!' USR1
wait $!
code=$?
while kill -0 $! 2>/dev/null; do wait $!; code=$?; done
exit $code
"""


def put(place: Path, *names: str) -> None:
    """Put the named programs into a folder."""
    place.mkdir(exist_ok=True)
    for name in names:
        text = APPTAINER if name in ("apptainer", "singularity") else DOCKER
        (place / name).write_text(NOTE + text)
        (place / name).chmod(0o755)


def calls(place: Path, name: str) -> list[list[str]]:
    """The arguments of each call."""
    log = place / f"{name}.log"
    if not log.exists():
        return []
    return [call.split("\n")[:-1] for call in log.read_text().split("--\n")[:-1]]
