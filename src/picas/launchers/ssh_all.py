"""Do something on several hosts at once: ``ssh_all submit SCRIPT`` or ``ssh_all status|cancel HOST:JOB…``.

A host that does not answer keeps none of the others waiting for long, and its failure is told among the answers. Each answer is
a line of JSON. A program of its own, see `picas.launchers.local.own_program`.

How ssh is called may be said in ``PICAS_SSH``, such as ``ssh -F my.config``.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from pathlib import Path

MARK = "#PICAS "
"""Lines of a script that begin with it have options."""

AT_ONCE = 32
"""Hosts that are asked at the same time."""

HOST_SECONDS = 45
"""How long one host may take for all that is asked of it."""

JOB = re.compile(r'"(\d{6}-\d{6}-\d+)"')
"""How `picas submit local --json` writes a job's id; before it, a login shell may have said anything."""

# No questions, and no waiting for a machine that is not there.
OPTIONS = "-o BatchMode=yes -o ConnectTimeout=15 -o ServerAliveInterval=10 -o ServerAliveCountMax=2"


class NoAnswer(Exception):
    """A host did not do what it was asked for; the text says why."""


def read_options(script: str) -> argparse.Namespace:
    """What the script's own lines say."""
    parser = argparse.ArgumentParser(prog="script", usage=f"{MARK}--OPTION=VALUE", add_help=False)
    parser.add_argument("--host", action="append", default=[])
    parser.add_argument("--file", type=Path, action="append", default=[])
    parser.add_argument("--directory", default=".")
    words: list[str] = []
    for line in script.splitlines():
        if line.startswith(MARK):
            words += shlex.split(line[len(MARK) :])
    return parser.parse_args(words)


def ask(host: str, command: str, given: bytes) -> str:
    """What a command on a host prints.

    Args:
        given: what it reads.

    Raises:
        NoAnswer: it fails, or takes too long.
    """
    ssh = shlex.split(os.environ.get("PICAS_SSH") or "ssh")
    argv = [*ssh, *OPTIONS.split(), "--", host, command]
    try:
        answer = subprocess.run(argv, input=given, capture_output=True, timeout=HOST_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise NoAnswer(f"no answer within {HOST_SECONDS} s") from None
    except OSError as error:
        raise NoAnswer(f"{ssh[0]}: {error.strerror}") from None
    if answer.returncode != 0:
        said = (answer.stderr or answer.stdout).decode("utf-8", "replace").strip()
        raise NoAnswer(said or f"exit code {answer.returncode}")
    return answer.stdout.decode("utf-8", "replace")


def submit(host: str, script: str, options: argparse.Namespace) -> str:
    """Bring the files to a host and run the script there; the job's id.

    Raises:
        NoAnswer: no pilot runs there.
    """
    place = shlex.quote(options.directory)
    for file in options.file:
        target = f"{place}/{shlex.quote(file.name)}"
        # Whole or not at all; and where the host has the same files as we have, not over the one that is being read.
        bring = f"mkdir -p {place} && umask 077 && cat >{target}.new && mv {target}.new {target}"
        ask(host, bring, file.read_bytes())
    said = ask(host, "exec bash -l -s", script.encode())
    found = JOB.search(said)
    if found is None:
        raise NoAnswer(f"it tells no job's id, but: {said.strip() or 'nothing'}")
    return found[1]


def look(host: str, verb: str, jobs: list[str]) -> list[str]:
    """What a host says of its jobs.

    Raises:
        NoAnswer: it says nothing.
    """
    words = " ".join(map(shlex.quote, [verb, *jobs]))
    program = (resources.files("picas.launchers") / "local_jobs.sh").read_bytes()
    return ask(host, f"exec sh -s -- {words}", program).splitlines()


def answer_of(host: str, verb: str, rest: list[str], options: argparse.Namespace | None) -> dict[str, object]:
    """One host's answer."""
    try:
        if options is None:
            return {"host": host, "said": look(host, verb, rest)}
        return {"host": host, "job": submit(host, rest[0], options)}
    except (NoAnswer, OSError) as error:
        return {"host": host, "error": str(error)}


def main(args: list[str]) -> int:
    """Do it; the exit code."""
    verb, *rest = args
    options = None
    asked: dict[str, list[str]] = {}
    if verb == "submit":
        script = Path(rest[0]).read_text("utf-8")
        options = read_options(script)
        asked = {host: [script] for host in options.host}
    else:
        for each in rest:
            host, _, job = each.rpartition(":")
            asked.setdefault(host, []).append(job)
    with ThreadPoolExecutor(min(AT_ONCE, len(asked) or 1)) as threads:
        answers = list(threads.map(lambda host: answer_of(host, verb, asked[host], options), asked))
    failed = [each for each in answers if "error" in each]
    if (verb == "cancel" and failed) or (verb == "submit" and len(failed) == len(answers)):
        sys.stderr.write(
            "".join(f"{each['host']}: {each['error']}\n" for each in failed) or "no host is named\n"
        )
        return 1
    sys.stdout.write("".join(json.dumps(each) + "\n" for each in answers))
    return 0
