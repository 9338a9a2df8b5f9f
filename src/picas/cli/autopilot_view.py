"""What ``picas autopilot`` tells of a look at the pool."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from picas.cli import output, text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from picas.autopilot.decide import Decision
    from picas.autopilot.loop import Look

EXIT_TROUBLE = 1
"""Exit code where pilots could not be started that were wanted, or tokens are left for which there are none."""

MOST_KINDS = 5
"""Kinds of tokens that no profile is for that are named."""

_HEAD = ("profile", "waiting", "each takes", "queued", "running", "wanted", "start")


class LookView(output.View):
    """What one look found, and what was done."""

    def __init__(self, pool: str, look: Look, *, dry: bool = False) -> None:
        self.pool = pool
        self.look = look
        self.dry = dry
        held = any(each.held_until for each in look.decisions)
        self.exit_code = EXIT_TROUBLE if look.problem or look.refused or held else 0

    def data(self) -> dict[str, Any]:
        """See docs/reference/json.md."""
        look = self.look
        return {
            "pool": self.pool,
            "at": look.at,
            "dry_run": self.dry,
            "busy": dict(look.busy) if look.busy is not None else None,
            "problem": look.problem or None,
            "profiles": [self._decided(each) for each in look.decisions],
            "unfit": [{**asdict(each.need), "tokens": each.count} for each in look.demand.unfit],
            "started": sum(job.pilots for job in look.started),
            "jobs": [
                {"ids": list(job.ids), "pilots": job.pilots, "profile": job.profile, "script": job.script}
                for job in look.started
            ],
            "pilots": look.left,
            "over": look.over,
        }

    def _decided(self, each: Decision) -> dict[str, Any]:
        waiting = each.waiting
        return {
            "name": each.profile.name,
            "waiting": waiting.tokens,
            "locked": waiting.running,
            "seconds": waiting.seconds,
            "by": waiting.source or None,
            "queued": each.queued,
            "running": each.running,
            "wanted": each.wanted,
            "start": each.start,
            "why": list(each.why),
            "failed": each.failing.count,
            "held_until": each.held_until,
            "refused": self.look.refused.get(each.profile.name),
        }

    def lines(self, screen: output.Screen) -> Iterator[str]:
        """A table of the profiles, and the reasons."""
        look = self.look
        if look.busy is not None and not look.decisions:
            yield f"{_who(look.busy)} looks after this pool already: nothing was done"
            return
        rows = [_HEAD, *map(_row, look.decisions)]
        for number, line in enumerate(text.columns(rows, right=(1, 2, 3, 4, 5, 6))):
            yield screen.fit(screen.style(line, "dim") if number == 0 else line)
        for each in look.decisions:
            yield from self._reasons(each)
        if look.problem:
            yield screen.style(_shown(look.problem), "yellow")
        yield from self._unfit(screen)
        for job in look.started:
            ids = " ".join(job.ids[:1]) + (f" … {job.ids[-1]}" if len(job.ids) > 1 else "")
            pilots = text.counted(job.pilots, "pilot")
            yield f"started {pilots} of {job.profile}: {job.launcher} {text.visible(ids)}"
        if look.over:
            yield (
                "nothing else is left to do, and no pilot"
                if look.demand.unfit
                else "nothing is left to do, and no pilot"
            )

    def _reasons(self, each: Decision) -> Iterator[str]:
        yield f"{each.profile.name}: {_shown('; '.join(each.why))}"
        if each.held_until is not None:
            yield f"  the next one is tried at {text.clock(each.held_until)}, or now with --retry"
        refused = self.look.refused.get(each.profile.name)
        if refused:
            yield f"  not started: {_shown(refused)}"

    def _unfit(self, screen: output.Screen) -> Iterator[str]:
        from picas.autopilot.profiles import words_of  # noqa: PLC0415 - start-up of the help

        unfit = self.look.demand.unfit
        if not unfit:
            return
        tokens = sum(each.count for each in unfit)
        named = [f"{text.number(each.count)} with {words_of(each.need)}" for each in unfit[:MOST_KINDS]]
        more = len(unfit) - len(named)
        kinds = "; ".join(named) + (f"; and {more} other kinds" if more else "")
        verb_ = "fits" if tokens == 1 else "fit"
        yield screen.style(f"{text.counted(tokens, 'waiting token')} {verb_} no profile: {kinds}", "yellow")

    def told(self, *, as_json: bool) -> str:
        """What is new if it differs: in a loop nobody wants to read the same every minute."""
        if as_json:
            return output.to_json({**self.data(), "at": None})
        look = self.look
        parts = [look.problem, str(look.busy), str(look.over), str(sorted(look.refused.items()))]
        parts += [f"{each.profile.name} {each.why[1:]}" for each in look.decisions if each.why[1:]]
        return "\n".join([*parts, *(f"{each.need}" for each in look.demand.unfit)])

    def say(self, *, as_json: bool) -> None:
        """Print it, in a loop: as one line of JSON, or as text with the time."""
        if as_json:
            output.say(output.to_json(self.data()))
            return
        lines = output.Lines()
        lines.say(lines.screen.style(time.strftime("%Y-%m-%d %H:%M:%S"), "bold"))
        for line in self.lines(lines.screen):
            lines.say(line)

    def summary(self) -> str:
        """How things stand, in a line."""
        demand = self.look.demand
        parts = [f"{text.number(demand.todo)} waiting", f"{text.number(demand.locked)} running"]
        return ", ".join([*parts, text.counted(self.look.left, "pilot")])


def _row(each: Decision) -> tuple[str, ...]:
    seconds = each.waiting.seconds
    counts = (each.queued, each.running, each.wanted, each.start)
    return (
        each.profile.name,
        text.number(each.waiting.tokens),
        "?" if seconds is None else text.duration(seconds),
        *map(text.number, counts),
    )


def _shown(said: str) -> str:
    """What a batch system said, in as many lines."""
    return text.visible(said, keep="\n")


def _who(busy: Any) -> str:
    host, began = busy.get("host"), busy.get("began")
    place = f" on {text.one_line(host)}" if host else ""
    since = f", since {text.clock(began)}," if isinstance(began, (int, float)) else ""
    return f"another autopilot{place}{since}"
