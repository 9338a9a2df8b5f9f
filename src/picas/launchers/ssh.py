"""Pilots in the background of other machines that ssh reaches: `picas.launchers.local` on each of them.

`ssh_all.py` asks them all at once. What is particular to a host (user, port, key, a machine in between) belongs into
``~/.ssh/config``, where every program finds it.
"""

from __future__ import annotations

import json
import re
import shlex
from typing import TYPE_CHECKING, Any

from picas.errors import InvalidInput, LaunchError
from picas.launchers.base import JobStatus, Phase, Script, Unlimited
from picas.launchers.filling import exports, fill, own_template
from picas.launchers.local import NEEDS_SCHEDULER, own_program, refuse, statuses

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from picas.launchers.base import Request

_HOST = re.compile(r"[A-Za-z0-9_\[][^\s\"'\\$`;&|<>()#]*")


class SSH(Unlimited):
    """See `picas.launchers.base.Launcher`. The pilots of a request are those of each host."""

    name = "ssh"
    submits = "ssh"
    forgiven: tuple[int, ...] = ()

    def template(self) -> str:
        """The one in ``templates/ssh.sh``."""
        return own_template("ssh.sh")

    def scripts(
        self,
        request: Request,
        template: str | None = None,
        limit: int | None = None,
    ) -> list[Script]:
        """One script, whatever the number of hosts.

        Raises:
            InvalidInput: no host is named, the template has a mistake, or something is asked for that needs a batch system.
        """
        refuse(request, "a machine that is reached by ssh", NEEDS_SCHEDULER)
        if not request.hosts:
            raise InvalidInput("no host is named", "Name some: --host node1 --host me@node2.")
        for host in request.hosts:
            if not _HOST.fullmatch(host):
                raise InvalidInput(
                    f"'{host}' is no host", "Write for example node1, me@node2 or ssh://me@node3:2222."
                )
        text = self.template() if template is None else template
        wanted = (
            {"export", "host"}
            | ({"setup"} if request.setup else set())
            | ({"file"} if request.files else set())
        )
        pilots = request.pilots * len(set(request.hosts))
        # inside: the directory is theirs, and need not be here
        return [Script(f"{request.name}.sh", fill(text, _values(request), wanted), pilots, inside=True)]

    def submit_argv(self, script: str) -> list[str]:
        """Run by the Python that runs this."""
        return own_program("ssh_all", "submit", script)

    def parse_submitted(self, printed: str) -> list[str]:
        """``host:job`` for each host.

        Raises:
            LaunchError: a host has no pilots; the error knows of those that have.
        """
        answers = list(_answers(printed))
        ids = [f"{each['host']}:{each['job']}" for each in answers if "job" in each]
        failed = [each for each in answers if "error" in each]
        if failed or not ids:
            hosts = "\n".join(f"{each['host']}: {each['error']}" for each in failed)
            started = f"Pilots were started on the others: {' '.join(ids)}." if ids else ""
            raise LaunchError(f"no pilots were started on\n{hosts or 'any host'}", started, ids)
        return ids

    def status_argv(self, ids: Sequence[str]) -> list[str]:
        """All hosts are asked at once."""
        return own_program("ssh_all", "status", *ids)

    def parse_status(self, printed: str, ids: Sequence[str]) -> list[JobStatus]:
        """One for each pilot; of a host that does not answer, why."""
        found: list[JobStatus] = []
        for answer in _answers(printed):
            prefix = f"{answer['host']}:"
            of_host = [each for each in ids if each.rpartition(":")[0] == answer["host"]]
            if "error" in answer:
                said = f"no answer ({str(answer['error']).splitlines()[-1]})"
                found += [JobStatus(each, Phase.UNKNOWN, said) for each in of_host]
            else:
                lines = "\n".join(f"{prefix}{line}" for line in answer["said"])
                found += statuses(lines, of_host, prefix)
        return found

    def cancel_argv(self, ids: Iterable[str]) -> list[str]:
        """All hosts are told at once."""
        return own_program("ssh_all", "cancel", *ids)


def _answers(printed: str) -> Iterator[dict[str, Any]]:
    """The answers of the hosts, one a line."""
    for line in printed.splitlines():
        try:
            answer = json.loads(line)
        except ValueError:
            continue
        if isinstance(answer, dict) and "host" in answer:
            yield answer


def _values(request: Request) -> dict[str, list[str]]:
    """What the template's names stand for."""
    return {
        "pilots": [str(request.pilots)],
        "name": [request.name],
        "host": [shlex.quote(each) for each in dict.fromkeys(request.hosts)],
        "file": [shlex.quote(str(each.absolute())) for each in request.files],
        "directory": [shlex.quote(str(request.directory))],
        "cores": [str(request.cores)],
        "setup": list(request.setup),
        "export": exports(request),
        "command": [_command(request)],
    }


def _command(request: Request) -> str:
    """What starts the pilots of one host, on that host."""
    words = [*request.program, "submit", "local", "--json", "--name", request.name]
    words += ["--pilots", str(request.pilots), "--cores", str(request.cores)]
    if request.walltime:
        words += ["--time", f"{request.walltime:g}s"]
    if request.signal:
        words += ["--signal", request.signal]
    if len(request.program) == 2:  # python3 FILE: a bundle, which the pilots are to run too
        words += ["--bundle", request.program[-1]]
    return shlex.join([*words, "--", *request.run])
