"""Job scripts from templates, ours or the user's.

A template is the script itself with ``{{name}}`` in the places that change. One rule does for conditions and loops:
a line with a name that has no value is left out, and one whose name has several values is written once for each::

    #SBATCH --mem={{memory}}        not there unless memory is asked for
    {{setup}}                       one line for each of the user's
"""

from __future__ import annotations

import re
import shlex
from importlib import resources
from typing import TYPE_CHECKING

from picas.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from picas.launchers.base import Request

COMMAND = "command"
"""The name of the pilot's command line, without which a script starts none."""

_PLACE = re.compile(r"\{\{ *([a-z_]+) *\}\}")


def own_template(name: str) -> str:
    """A template of this package, by the name of its file."""
    return (resources.files("picas.launchers") / "templates" / name).read_text("utf-8")


def fill(template: str, values: Mapping[str, Sequence[str]], wanted: Collection[str] = ()) -> str:
    """The script.

    Args:
        values: the values of each name that a template may have; none for what is not asked for.
        wanted: names that were asked for by somebody: it is an error if the template has no place for one.

    Raises:
        InvalidInput: a name is none of these, a place is not closed, or one is missing; the message says which line.
    """
    lines: list[str] = []
    used: set[str] = set()
    for number, line in enumerate(template.splitlines(), 1):
        names = _PLACE.findall(line)
        _check_line(number, line, names, values)
        used.update(names)
        if not names:
            lines.append(line)
            continue
        times = max(len(values[name]) for name in names) if all(values[name] for name in names) else 0
        lines += [_filled(line, values, time) for time in range(times)]
    for name in (COMMAND, *sorted(wanted)):
        if name not in used and values.get(name):
            raise InvalidInput(
                f"the template has no {{{{{name}}}}}"
                + (
                    ", so its script would start no pilot"
                    if name == COMMAND
                    else f", and {name} is asked for"
                ),
                "Put it where it belongs; picas submit NAME --template prints one that has everything.",
            )
    return "\n".join(lines) + "\n"


def _check_line(number: int, line: str, names: Sequence[str], values: Mapping[str, Sequence[str]]) -> None:
    for name in names:
        if name not in values:
            raise InvalidInput(
                f"line {number} of the template: there is nothing called {{{{{name}}}}}",
                f"There are: {', '.join(sorted(values))}.",
            )
    if "{{" in _PLACE.sub("", line):
        raise InvalidInput(
            f"line {number} of the template: '{{{{' begins no name that ends in '}}}}': {line.strip()}",
            "Names are of small letters: {{cores}}. For braces of your own leave a blank between them.",
        )


def _filled(line: str, values: Mapping[str, Sequence[str]], time: int) -> str:
    def value(found: re.Match[str]) -> str:
        of_name = values[found[1]]
        return of_name[min(time, len(of_name) - 1)]

    return _PLACE.sub(value, line)


def pilot_command(request: Request, slots: str = "", program: str = "") -> str:
    """The command line of one pilot, for a shell.

    Args:
        program: how picas is called, in the shell's words; as the request says if nothing is given.
        slots: what the shell makes the number of its cores of, such as ``"${SLURM_CPUS_PER_TASK:-4}"``, in quotes;
            the number that is asked for if nothing is given.
    """
    words = [program or shlex.join(request.program), "run"]
    if request.slots:
        words += ["--workers", slots or str(request.cores)]
    if request.signal:
        words += ["--signal", shlex.quote(request.signal)]
    return " ".join([*words, *map(shlex.quote, request.run)])


def exports(request: Request) -> list[str]:
    """Shell lines that set what the pilot finds in its environment."""
    variables = {"PICAS_POOL": request.pool, **request.environment}
    return [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
