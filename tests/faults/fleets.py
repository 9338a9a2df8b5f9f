"""Fleets of real pilots, to which something is done while they work, and what is to be found in the pool afterwards.

with Fleet(tmp_path, pool_url, pilots=20) as fleet:
    fleet.push(5000)
    fleet.work(until_ended, seconds=600, each_second=fleet.kill_one)
found = fleet.look()
found.check(5000)

Every work writes its token, its claim and the time into one journal when it begins and when it ends, so what has run is
known from elsewhere than from the pool. It prints its claim, so it can be told whose log a token has.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable
from urllib.parse import urlsplit

from picas.budgets import Budgets
from picas.errors import PoolUnavailable
from picas.fleet.reaping import Reaper
from picas.pool import open_pool
from picas.spool.spool import flush
from picas.tokens import State

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from picas.tokens import Token

LEASE = 4.0
"""Seconds of silence after which a pilot counts as dead in the long runs."""

LOOK_SECONDS = 0.25
"""How often is looked how far they are."""

LEAVE_SECONDS = 120.0
"""How long a pilot may take to leave in order, on a slow and busy machine too."""

PICAS = "import sys; from picas.cli.main import main; sys.exit(main())"

ELSEWHERE = "from picas import machine; machine.this_process = dict; " + PICAS
"""A pilot that is as one on another machine: that its process is gone nobody can see, only that it is silent."""

WORK = """\
echo "+ $PICAS_TOKEN_ID $PICAS_CLAIM $EPOCHREALTIME" >>{journal}
echo $PICAS_CLAIM
sleep {seconds}
echo "- $PICAS_TOKEN_ID $PICAS_CLAIM $EPOCHREALTIME" >>{journal}
"""


class Fleet:
    """Used as a context: the pilots work within, and have left in good order afterwards.

    Args:
        path: an empty directory for all that they write.
        urls: the pool's URL, or one for each pilot in turn, with credentials where there are any.
        pilots: how many there are.
        direct: the URL by which the test looks at the pool, if it is another.
        seconds: how long the work of a token takes.
        elsewhere: which share of the pilots is as on another machine.
        lease: seconds of silence after which a pilot counts as dead; it gives a sign of life four times as often.
        mortal: works kill pilots, too, in whose places new ones come.
        options: more of `picas run`.
    """

    def __init__(
        self,
        path: Path,
        urls: str | Sequence[str],
        pilots: int,
        *,
        direct: str = "",
        seconds: float = 0.05,
        elsewhere: float = 0.5,
        lease: float = LEASE,
        mortal: bool = False,
        options: Sequence[str] = (),
    ) -> None:
        self.path = path
        self.urls = [urls] if isinstance(urls, str) else list(urls)
        self.pool = open_pool(direct or self.urls[0])
        self.count = pilots
        self.killed = 0
        self.journal = path / "journal"
        self.spool = path / "spool"
        self._work = path / "work.sh"
        self._work.write_text(WORK.format(journal=self.journal, seconds=seconds))
        self.journal.touch()
        (path / "scratch").mkdir()
        self._elsewhere = elsewhere
        self.lease = lease
        self._mortal = mortal
        self._options = options
        self._random = random.Random(5)
        self._mark = f"mark-{os.urandom(8).hex()}"
        self._started = 0
        self._logs: dict[int, Path] = {}
        self.pilots: list[subprocess.Popen[bytes]] = []
        self.begun = self.seconds = 0.0

    def push(self, tokens: int) -> None:
        """Fill the pool."""
        self.pool.push([f". {self._work} # {n}" for n in range(tokens)])

    # --- The pilots ---

    def __enter__(self) -> Fleet:
        self.begun = time.monotonic()
        for _ in range(self.count):
            self.start_one()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.seconds = self.seconds or time.monotonic() - self.begun
        try:
            if kind is None:
                self._leave()
        finally:
            for process in self.pilots:
                process.kill()
                process.wait()
            self._clear()

    def start_one(self) -> None:
        """One more pilot, as a user starts it."""
        url = self.urls[self._started % len(self.urls)]
        parts = urlsplit(url)
        environment = {**os.environ, "TEST_MARK": self._mark, "PICAS_SPOOL": str(self.spool)}
        if parts.username:
            environment.update(PICAS_USERNAME=parts.username, PICAS_PASSWORD=parts.password or "")
            url = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        environment["PICAS_POOL"] = url
        code = ELSEWHERE if self._random.random() < self._elsewhere else PICAS
        options = [
            *self._options,
            "--wait",
            "--workers=2",
            f"--lease={self.lease:g}s",
            f"--beat={self.lease / 4:g}s",
        ]
        path = self.path / f"pilot-{self._started}.log"
        with open(path, "wb") as log:
            self.pilots.append(
                subprocess.Popen(
                    [sys.executable, "-c", code, "run", *options, f"--scratch={self.path}/scratch"],
                    cwd=self.path,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            )
        self._logs[self.pilots[-1].pid] = path
        self._started += 1

    def kill_one(self) -> None:
        """SIGKILL to any one of them, and a new one in its place."""
        process = self.pilots.pop(self._random.randrange(len(self.pilots)))
        if process.poll() is not None:  # that is told by whoever waits
            self.pilots.append(process)
            return
        process.kill()
        process.wait()
        self.killed += 1
        self.start_one()

    def freeze(self, count: int) -> list[subprocess.Popen[bytes]]:
        """SIGSTOP to so many; those."""
        frozen = self._random.sample(self.pilots, count)
        for process in frozen:
            process.send_signal(signal.SIGSTOP)
        return frozen

    def _leave(self) -> None:
        for process in self.pilots:
            process.send_signal(signal.SIGTERM)
        codes = [process.wait(LEAVE_SECONDS) for process in self.pilots]
        # One that has only just been started may not have come so far as to leave in order.
        assert set(codes) <= {128 + signal.SIGTERM, -signal.SIGTERM}, self._tell(str(codes))

    def _clear(self) -> None:
        for pid in self.alive():
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)

    def alive(self) -> list[int]:
        """The processes that were started here and still run: works of pilots that were killed."""
        found = []
        for name in filter(str.isdigit, os.listdir("/proc")):
            with suppress(OSError):
                if self._mark.encode() in Path(f"/proc/{name}/environ").read_bytes():
                    found.append(int(name))
        return found

    def _tell(self, what: str) -> str:
        logs = sorted(self.path.glob("pilot-*.log"))
        said = Counter(line for log in logs for line in log.read_text(errors="replace").splitlines())
        return "\n".join([what, *(f"{count} × {line}" for line, count in said.most_common(60))])

    # --- What happens ---

    def wait(
        self, until: Callable[[], Any], seconds: float, each_second: Callable[[], None] | None = None
    ) -> None:
        """Until something is so, or longer than these seconds, which is a failure, as is a pilot that leaves."""
        deadline = time.monotonic() + seconds
        due = time.monotonic() + 1.0
        while not until():
            assert time.monotonic() < deadline, self._tell(f"not in {seconds} s: {self.counts()}")
            self._miss_none()
            if each_second is not None and time.monotonic() >= due:
                each_second()
                due = max(due + 1.0, time.monotonic())
            time.sleep(LOOK_SECONDS)

    def _miss_none(self) -> None:
        left = [process for process in self.pilots if process.poll() is not None]
        for process in left:
            killed = self._mortal and process.returncode == -signal.SIGKILL
            assert killed, f"a pilot has left: {process.returncode}\n{self._logs[process.pid].read_text()}"
            self.pilots.remove(process)
            self.killed += 1
            self.start_one()

    def wait_until_ended(self, seconds: float, each_second: Callable[[], None] | None = None) -> None:
        """Until every token is done or in error."""
        self.wait(self._all_ended, seconds, each_second)
        self.seconds = time.monotonic() - self.begun

    def ran(self, number: int) -> Callable[[], bool]:
        """Whether so many works have begun so far."""
        return lambda: self.journal.read_bytes().count(b"+") >= number

    def _all_ended(self) -> bool:
        counts = self.counts()
        return bool(counts) and not counts[State.TODO] and not counts[State.LOCKED]

    def counts(self) -> dict[Any, int]:
        """How many tokens are in each state; empty while the pool is away."""
        try:
            return dict(self.pool.counts())
        except PoolUnavailable:
            return {}

    # --- What is there afterwards ---

    def look(self) -> Found:
        """What has become of the tokens, once the pilots are gone, and what they left behind was sent and taken back."""
        sent, left = flush(self.pool, self.spool)
        assert left == 0, f"{left} results stay in the spool"
        Reaper(self.pool, Budgets()).reap(sure=True)
        found = Found(self.killed, self.seconds, sent)
        for token in self.pool.tokens():
            found.add(token, self._log_of(token))
        for line in self.journal.read_text().splitlines():
            sign, token_id, claim, at = line.split()
            (found.began if sign == "+" else found.ended)[token_id][claim] = float(at)
        self.pool.close()
        return found

    def _log_of(self, token: Token) -> str:
        name = f"logs_{token.id}.out"
        if name not in token.attachments:
            return ""
        return b"".join(self.pool.read_attachment(token.id, name)).decode()


@dataclass
class Found:
    """What is in the pool, and in the journal of what has run.

    Attributes:
        killed: pilots that were.
        seconds: how long all took.
        sent: results that were still on the disk of pilots that had died.
        accepted: token -> the claims whose results count.
        began, ended: token -> claim -> when.
    """

    killed: int
    seconds: float
    sent: int
    states: Counter[str] = field(default_factory=Counter)
    accepted: dict[str, list[str]] = field(default_factory=dict)
    logs: dict[str, str] = field(default_factory=dict)
    classes: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    began: dict[str, dict[str, float]] = field(default_factory=lambda: defaultdict(dict))
    ended: dict[str, dict[str, float]] = field(default_factory=lambda: defaultdict(dict))

    def add(self, token: Token, log: str) -> None:
        """Count one token."""
        self.states[token.state.value if token.state else "none"] += 1
        attempts = [*token.history, token.run]
        self.accepted[token.id] = [run["claim"] for run in attempts if _counts(run)]
        self.logs[token.id] = log.strip()
        self.classes.update(
            "superseded" if run.get("superseded") else run.get("failure", "") for run in attempts
        )
        if token.state is State.ERROR:
            self.errors[token.run.get("failure", "")] += 1

    @property
    def attempts(self) -> int:
        """Works that were begun."""
        return sum(map(len, self.began.values()))

    @property
    def doubles(self) -> int:
        """Works that ran to their end although another of the same token did, too."""
        return sum(len(claims) - 1 for claims in self.ended.values() if claims)

    @property
    def lost_seconds(self) -> list[float]:
        """For each token how much later the work began that counts than the first one."""
        late = [
            self.began[token][claims[0]] - min(self.began[token].values())
            for token, claims in self.accepted.items()
            if claims and claims[0] in self.began[token]
        ]
        return [seconds for seconds in late if seconds > 0]

    def check(self, tokens: int) -> None:
        """Every token is done, by one work that really ran, whose log it has."""
        told = f"{self.states} {self.errors} {self.classes}"
        assert self.states == {"done": tokens}, told
        assert len(self.accepted) == tokens
        assert {token: claims for token, claims in self.accepted.items() if len(claims) != 1} == {}
        for token, (claim,) in self.accepted.items():
            assert claim in self.ended[token], f"{token} is done by {claim}, which never ran to its end"
            assert self.logs[token] == claim, f"{token} has the log of another attempt"

    def row(self) -> list[str]:
        """What the report says of it."""
        late = self.lost_seconds
        return [
            f"{sum(self.states.values()):,}",
            f"{self.seconds:.0f} s",
            str(self.killed),
            f"{self.attempts:,}",
            str(self.doubles),
            str(self.classes["superseded"]),
            str(self.sent),
            f"{len(late)} tokens, {sum(late):.0f} s, at most {max(late, default=0):.1f} s",
            str(sum(self.states.values()) - sum(map(bool, self.accepted.values()))),
            str(sum(len(claims) > 1 for claims in self.accepted.values())),
        ]


def _counts(run: dict[str, Any]) -> bool:
    """Whether an attempt was accepted as the token's result."""
    ok = run.get("exit_code") == 0 and not run.get("failure")
    return ok and not run.get("superseded") and bool(run.get("claim"))


HEADS = (
    "what is done to them", "pool", "pilots", "tokens", "took", "pilots killed", "works begun", "doubles",
    "superseded", "sent later", "time lost", "lost", "accepted twice",
)  # fmt: skip


class Report:
    """A table in Markdown, one row for each run; a run that is repeated replaces its row.

    Args:
        path: the file; None to print only.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def add(self, what: str, pool: str, pilots: int, found: Found) -> None:
        """Note how a run went."""
        row = [what, pool, str(pilots), *found.row()]
        print("\n" + "; ".join(f"{head}: {cell}" for head, cell in zip(HEADS, row)))
        if self._path is None:
            return
        rows = [each for each in self._rows() if each[:2] != row[:2]] + [row]
        lines = [HEADS, ["---"] * len(HEADS), *sorted(rows)]
        text = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        date = time.strftime("%Y-%m-%d", time.gmtime())
        self._path.write_text(f"{INTRODUCTION}\n{text}\n\n- last run: {date}; {os.cpu_count()} cores\n")

    def _rows(self) -> Iterator[list[str]]:
        if self._path is None or not self._path.exists():
            return
        lines = [line for line in self._path.read_text().splitlines() if line.startswith("|")]
        for line in lines[2:]:
            yield [cell.strip() for cell in line.strip("|").split("|")]


INTRODUCTION = f"""\
# Faults

Real pilots as processes, two tokens at a time each, a lease of {LEASE:g} s and a sign of life each second; half of them
are as on other machines, where only their silence tells that they are dead. Written by `nox -s faults`.

*Works begun* and *doubles* are counted by the works themselves: doubles ran to their end although another work of the
same token did. *Superseded* results are kept beside the one that counts. *Sent later* are results of killed pilots that
were on disk and not in the pool yet when all had left. *Time lost*: how much later the work of a token began that counts
than its first one. *Lost* are tokens without a result, *accepted twice* those with more than one.
"""
