"""The pilot: claim, run, finish, until there is nothing left or it has to go."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

from picas._version import __version__
from picas.errors import InfrastructureError, InvalidInput, PicasError, PoolError, PoolUnavailable
from picas.jobid import batch_job_ids
from picas.pilot import choices
from picas.pilot.checkpoints import Checkpoints
from picas.pilot.courier import Courier
from picas.pilot.delivery import Delivery
from picas.pilot.duty import Duty, check_lease
from picas.pilot.ending import Ending, find_ending, told_now
from picas.pilot.heart import BEAT_SECONDS, LEASE_SECONDS
from picas.pilot.heeding import alarmed, heeded
from picas.pilot.horizon import Horizon
from picas.pilot.nexttry import NextTry
from picas.pilot.probe import QuickFailures
from picas.pilot.probe import probe as run_probe
from picas.pilot.slots import Slots
from picas.pilot.solo import Solo
from picas.pilot.summary import Event, Summary
from picas.pilot.supply import Supply
from picas.selection import Selection
from picas.spool.spool import Spool, default_spool
from picas.tokens import Claimer, State
from picas.trust import secrecy
from picas.walltime import parse_notice, until_when
from picas.work.children import Children
from picas.work.command import SECRETS
from picas.work.functions import FunctionWork
from picas.work.inprocess import OwnWork
from picas.work.runner import Runner, not_trusted
from picas.work.scratch import Scratch, remove

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager
    from types import FrameType

    from picas.budgets import Budgets
    from picas.finishing import Result, Verdict
    from picas.fleet.reaping import Reaped
    from picas.pool import Pool
    from picas.staging.plan import Staging
    from picas.tokens import Token
    from picas.work.containers import Container
    from picas.work.functions import WorkLike
    from picas.work.scratch import Attempt

DEFAULT_LOG_CAP = 16 << 20
"""Bytes of each log that are kept, head and tail."""

DEFAULT_GRACE = 5.0
"""Seconds between TERM and KILL."""

PATIENCE_SECONDS = 10.0
"""How long a pilot that has to go tries to bring its last results to a pool that does not answer."""

LONGEST_WAIT = 3600.0
"""Seconds of one wait at the most; what waits for longer is looked at in between."""

UNFIT_LOOKED_AT = 5000
"""Tokens left in the pool of which a pilot that ends looks whether they need more cores than it has."""

MOST_WAITING = 1000
"""With so many results that wait for the pool nothing more is claimed: a pilot that dies has lost their work."""

SILENT_LOOK_SECONDS = 5.0
"""How often a pilot that has nothing to do looks whether silent pilots, which hold the last tokens, are dead."""

AHEAD_LOOK_SECONDS = 0.02
"""How often a pilot without work then looks whether the pool has taken them."""

SETTLE_LOOK_SECONDS = 0.05
"""How often a pilot that waits for its results to be in the pool looks whether it has to go."""

SWEEP_SECONDS = 0.5
"""How long after the last end of an attempt strays are looked for once more: one may just have been forking."""

UNFIT = ("probe", "quick-failures")
"""Reasons of a summary by which it is the machine that is to blame."""


class Pilot:
    """Runs the tokens of a pool.

    Args:
        pool: where the tokens are.
        work: a function of a token (or of a token and a `picas.work.functions.Job`); or a command as a list of
            strings with ``{field}`` in them; or None for ``bash -c "$INPUT"``; or a `picas.work.inprocess.OwnWork`.
        workers: slots; a token takes as many as its ``cores``, one if it has none.
        max_tasks: start at most so many tokens.
        max_time: start none after so many seconds; those that run are finished.
        task_timeout: stop a token's work after so many seconds (TERM, then KILL, to its whole group).
        max_scrub: hand a token out again so many times after its work failed.
        retry_on: exit codes by which the work says "try again": such an attempt has a budget of its own.
        budgets: how often a token is tried again after failures of each class, and after which pause; what
            ``max_scrub`` and ``retry_on`` say goes before it.
        wait: when the pool is empty, keep looking for new work.
        where: a condition on tokens, as text or parsed.
        view: only tokens that this view of a CouchDB database lists, such as ``SingleCore/todo``.
        order: ``priority`` (highest first, then oldest), ``oldest`` or ``newest``.
        collect: glob patterns, within the token's directory, of files to attach.
        keep: leave the directory of a token that failed.
        until: when this pilot has to be gone: Unix seconds, or a text such as ``06:00`` or ``+90m``. If None, when its
            batch job ends, where that can be found out; ``never`` for no end. Only tokens are taken that fit into the
            time that is left, by their field ``walltime`` or by what others took.
        signal: a signal for work that may not end in time, and how long before the end, such as ``USR1@120``. The files
            that match ``collect`` are then the token's checkpoint: the next attempt begins with them.
        probe: a shell command that has to succeed on this machine before anything is claimed.
        max_quick_failures: after so many failures in a row within a few seconds each, the machine is taken to be unfit:
            the pilot gives these tokens back uncharged and ends.
        require_signed: run only tokens that a trusted key has signed, others end in error: True for the keys that
            this user trusts, or the path of a file of keys; see `picas.trust.keys`.
        keep_secrets: leave PICAS_PASSWORD in the environment of the work, from which it is else taken out.
        secrets: other variables to take out; ``*`` and ``?`` stand for any letters. What runs in this process sees
            all of its environment nevertheless.
        log_cap: bytes of each log that are kept; of a longer one the head and the tail.
        scratch: where the tokens' directories are made; the system's temporary directory if None.
        grace: seconds between TERM and KILL.
        spool: where results wait that the pool could not take; see `picas.spool.spool.default_spool`.
        lease: for how many seconds the pilot may be silent before others believe it dead and take its tokens back;
            0 for ever: then only a person does.
        beat: how often it gives a sign of life, seconds.
        staging: which files are fetched before the work of each token and brought away after it, and from and to where
            tokens may have that done by their own fields ``stage_in`` and ``stage_out``; see `picas.staging.plan`.
        container: what commands run in; see `picas.work.containers`.
        on_event: called with what happens, from several threads.

    Attributes:
        ended_because: a sentence on why it ended, where there is more to say than the summary's ``reason``.

    Raises:
        InvalidInput: an argument cannot be used; the pool was not touched.

    A function runs in this process when ``workers`` is 1 and there is no ``task_timeout``: that is fastest.
    Otherwise, and where a ``signal`` is chosen, each call has a child process of its own, so that a limit holds
    against any code.

    Example:
        >>> summary = Pilot(pool, lambda token: {"n": len(token.input)}).run()   # doctest: +SKIP
        >>> summary.done                                                        # doctest: +SKIP
        12
    """

    ended_because = ""
    _ending: Ending | None = None
    _horizon: Horizon | None = None
    _sweep_at: float | None = None
    _solo: Solo | None = None
    _rung = False

    def __init__(  # noqa: PLR0913 - each is a choice that users make by name
        self,
        pool: Pool,
        work: WorkLike | OwnWork = None,
        *,
        workers: int = 1,
        max_tasks: int | None = None,
        max_time: float | None = None,
        task_timeout: float | None = None,
        max_scrub: int | None = None,
        retry_on: Sequence[int] = (),
        budgets: Budgets | None = None,
        wait: bool = False,
        where: Selection | str | None = None,
        view: str | None = None,
        order: str = "priority",
        collect: Sequence[str] = (),
        keep: bool = False,
        until: float | str | None = None,
        signal: str | None = None,
        probe: str | None = None,
        max_quick_failures: int | None = None,
        require_signed: bool | str | os.PathLike[str] = False,
        keep_secrets: bool = False,
        secrets: Sequence[str] = (),
        log_cap: int = DEFAULT_LOG_CAP,
        scratch: str | os.PathLike[str] | None = None,
        grace: float = DEFAULT_GRACE,
        spool: str | os.PathLike[str] | None = None,
        lease: float = LEASE_SECONDS,
        beat: float = BEAT_SECONDS,
        staging: Staging | None = None,
        container: Container | None = None,
        on_event: Callable[[Event], None] | None = None,
    ) -> None:
        choices.check(
            {"workers": workers, "max_tasks": max_tasks, "max_quick_failures": max_quick_failures},
            {"max_time": max_time, "task_timeout": task_timeout},
            order,
        )
        for name, number in (("log_cap", log_cap), ("grace", grace)):
            if not number >= 0:
                raise InvalidInput(f"{name} is {number}; it cannot be less than 0")
        check_lease(lease, beat)
        self.pool = pool.through(view) if view else pool
        self.view = view
        self.workers = workers
        self.max_tasks = max_tasks
        self.max_time = max_time
        self.task_timeout = task_timeout
        self.budgets = choices.make_budgets(budgets, max_scrub, retry_on)
        self.wait = wait
        self.where = Selection.parse(where) if isinstance(where, str) else where
        self.order = order
        self.collect = tuple(choices.checked_pattern(pattern) for pattern in collect)
        self.keep = keep
        self.log_cap = log_cap
        self.grace = grace
        self.until = until_when(until)
        self._notice = parse_notice(signal) if signal else None
        self._probe = partial(run_probe, probe) if probe else None
        self._quick = QuickFailures(max_quick_failures) if max_quick_failures else None
        self.lease = lease or None
        self.beat = beat
        self._scratch_parent = scratch
        self._spool = Spool(Path(spool) if spool is not None else default_spool(), pool.url)
        self._listener = on_event
        self._error: BaseException | None = None  # why this pilot cannot go on
        self._verifier = choices.make_verifier(require_signed)
        self._hidden = hidden = tuple(secrets) if keep_secrets else (*SECRETS, *secrets)
        signed = self._verifier is not None
        self._work = choices.make_work(work, pool.url, hidden, staging, container, signed=signed)
        alone = workers == 1 and task_timeout is None and self._notice is None
        if isinstance(self._work, OwnWork) and not alone:
            raise InvalidInput(
                "this work runs in the pilot's own process: it has one worker, no task_timeout and no signal"
            )
        self._in_process = isinstance(self._work, (FunctionWork, OwnWork)) and alone
        self._host = socket.gethostname()
        self.id = f"{self._host}-{os.getpid()}-{os.urandom(3).hex()}"
        self._job_ids = batch_job_ids(os.environ)
        self._children: Children | None = None
        self._reason = ""  # why to stop, as soon as there is a reason
        self._summary = Summary()
        self._started = 0
        self._settled_count = 0  # attempts whose end is in the pool
        self._settled_at_look = 0
        self._silent_look_at = 0.0  # when to look again whether silent pilots are dead; 0 for not at all

    # --- From outside ---

    def stop(self) -> None:
        """Put running tokens back and end; from any thread."""
        self._reason = self._reason or "stopped"
        if self._children is not None:
            self._children.ring()

    def run(self) -> Summary:
        """Work until the pool is empty, a limit is reached, or a signal says stop. A pilot runs once.

        INT, TERM or HUP: running work is stopped and its tokens go back to todo, uncharged; a second
        one kills the work at once. Called from another thread than the main one, no signal is handled.

        Raises:
            PoolRefused: the pool cannot be used; finished work is in the spool.
            InfrastructureError: this machine cannot start work: no place for the tokens' directories, no
                more processes. What ran was finished, no token suffers.
            Exception: what ``on_event`` raised, after the pilot has left in order.
        """
        secrecy.cover()
        self._scratch = Scratch(self._scratch_parent)
        self._slots = Slots(self.workers, self._scratch, self._begin)
        claimer = Claimer(self.id, self._host, self._job_ids, self._scratch.path, self.lease)
        self._begun = time.monotonic()
        own = self._work if isinstance(self._work, OwnWork) else None
        self._ending = find_ending(self.until, self._notice, detect=own is None)
        if self._ending is not None:
            self._horizon = Horizon(self._ending.closes_at, self.where)
            self._tell(Event("note", message=self._ending.told()))
        checkpoints = Checkpoints(self._scratch.path, self.pool, self._problem)
        # Who may run only what is signed is not to be given files that nobody has signed.
        if self._verifier is None and own is None:
            self._scratch.furnish = checkpoints.place
        notice = self._notice.number if self._notice is not None else None
        try:
            with (
                Children() as self._children,
                heeded(self._children, self._on_signal, notice, self._on_notice),
            ):
                self._duty = Duty(
                    self.pool,
                    claimer,
                    self.budgets,
                    self.lease,
                    self.beat,
                    about=self._about,
                    on_news=self._heed,
                    on_problem=self._problem,
                    on_reaped=self._tell_reaped,
                    spool=self._spool,
                )
                self._supply = Supply(
                    self.pool,
                    claimer,
                    self.where,
                    self.order,
                    self.workers,
                    on_news=self._children.ring,
                    on_problem=self._problem,
                    on_wait=self._tell_waiting,
                    any_size=own is not None,
                    horizon=self._horizon,
                    prepare=checkpoints.fetch if self._scratch.furnish is not None else None,
                )
                self._next_try = NextTry(self._supply.next_due, self.pool.store, self._tell_next_try)
                self._courier = Courier(self.pool, self._spool, self.budgets, self._settled, self._problem)
                self._delivery = Delivery(
                    self._courier,
                    self._quick,
                    keep=self.keep,
                    has_checkpoints=self._notice is not None,
                    ending=lambda: self._ending,
                    at_end=self._at_end,
                    on_unfit=partial(self._give_up, "quick-failures"),
                )
                self._solo = self._make_solo()
                try:
                    self._spool.flush(self.pool)
                except InfrastructureError as error:
                    self._problem(error)
                self._duty.start()
                self._supply.start()
                self._courier.start()
                try:
                    with self._alarmed(self._children):
                        self._check_machine()
                        self._loop()
                finally:
                    self._leave()
        finally:
            checkpoints.close()
            self._scratch.close()
        for reason in (self._supply.error, self._courier.error, self._error, self._duty.error):
            if reason is not None:
                raise reason
        self._summary.seconds = time.monotonic() - self._begun
        self._summary.because = self.ended_because
        return self._summary

    def _check_machine(self) -> None:
        """Run the probe, if there is one; without success nothing is claimed here."""
        why = self._probe(lambda: not self._reason, self._hidden) if self._probe is not None else ""
        if why:
            self._give_up("probe", f"{why}; nothing was claimed")

    def _give_up(self, reason: str, why: str) -> None:
        """End because this machine is not fit."""
        if not self._reason:
            self._reason, self.ended_because = reason, why
            self._problem(PicasError(why, f"Is something wrong with {self._host}?"))

    # --- The loop ---

    def _loop(self) -> None:
        while not self._is_over():
            if self._duty.is_in_question:
                self._supply.forsake()
            self._start_what_fits()
            self._refill()
            if len(self._slots) and not (self._reason or self._limit_reached()):
                self._slots.prepare(self._supply.first())
            self._wait_and_tick()
            self._supply.collect()

    def _wait_and_tick(self) -> None:
        """Wait until something happens; let the attempts do what is due, and hand over those that are over."""
        assert self._children is not None
        self._slots.exited(self._children.wait(self._until_next_tick()))
        if self._summary.signal is not None:  # what has failed at the same moment was told to end, as we were
            self._slots.give_up(None)
        if self._ending is not None:
            self._slots.warn(self._ending)
        for runner in self._slots.tick(self._duty.is_cancelled):
            self._supply.measure(runner.wall)
            self._delivery.send_result_of(runner)
            self._sweep_at = time.monotonic() + SWEEP_SECONDS
        self._delivery.tick()
        if self._sweep_at is not None and time.monotonic() >= self._sweep_at:
            self._children.sweep()
            self._sweep_at = None

    def _until_next_tick(self) -> float | None:
        if self._solo is not None and self._supply and not len(self._slots):
            return 0.0
        if not len(self._slots) and (self._is_ahead or not self._duty.ready.is_set()):
            return AHEAD_LOOK_SECONDS
        idle = not (len(self._slots) or self._supply.pending)
        looks = [at for at in (self._next_try.look_at, self._silent_look_at) if at] if idle else []
        look_at = min(looks) if looks else None
        if not (len(self._slots) or self._supply.pending or self.wait or look_at):
            return 0.0  # nothing will ring: the last token has just run, and maybe it is all over
        times = self._slots.ticks
        others = (
            self._sweep_at,
            self._delivery.next_tick,
            look_at,
            None if self._ending is None else self._ending.next_tick,
        )
        times += [at for at in others if at is not None]
        if self._reason or self._limit_reached():
            times += [] if len(self._slots) else [0.0]  # nothing to wait for
        else:
            if self._supply.next_look is not None and self._slots.free:
                times.append(self._supply.next_look)
            if self.max_time is not None:
                times.append(self._begun + self.max_time)
        return min(LONGEST_WAIT, max(0.0, min(times) - time.monotonic())) if times else None

    # --- Whether to end ---

    def _is_over(self) -> bool:
        """Whether there is nothing more to do here; sets the summary's reason."""
        errors = self._supply.error, self._courier.error, self._duty.error
        if any(error is not None for error in errors):
            self._reason = self._reason or "stopped"
        found = "" if self._reason else self._why_to_end()
        self._reason = self._reason or found  # another thread or a signal may have given one meanwhile
        self._summary.reason = self._reason or self._summary.reason
        if self._reason == "walltime" and self._ending is not None:
            self.ended_because = self._ending.why()
        return bool(self._reason)

    def _why_to_end(self) -> str:
        limit = self._limit_reached()
        if len(self._slots):
            return "walltime" if self._ending is not None and self._ending.over else ""
        if limit:
            return limit  # what is claimed and has not begun goes back
        return "" if self._supply.pending else self._nothing_left()

    def _nothing_left(self) -> str:
        if not self._supply.empty or self.wait:
            return ""
        if self._next_try.has_come:
            self._supply.look_again()
            return ""
        self._delivery.let_go()
        # What ended since the last look may be todo again, or have pushed new tokens: worth another look.
        cut_short = self._settle()
        if cut_short:
            return cut_short
        if self._settled_count > self._settled_at_look or self._has_reaped():
            self._supply.look_again()
            return ""
        if self._next_try.is_soon() or self._stays_for_silent():
            return ""
        self._summary.next_try = self._next_try.due
        self._count_unfit()
        return "empty"

    def _settle(self) -> str:
        """Wait until all results are in the pool; why the pilot ends before they are, "" if it does not."""
        settled = self._courier.flush()
        while not settled.wait(SETTLE_LOOK_SECONDS):
            if self._reason or self._courier.error is not None or self._limit_reached():
                return self._reason or self._limit_reached() or "stopped"
        return ""

    def _limit_reached(self) -> str:
        if self._error is not None:
            return "stopped"
        if self.max_tasks is not None and self._started >= self.max_tasks:
            return "max-tasks"
        if self.max_time is not None and time.monotonic() - self._begun >= self.max_time:
            return "max-time"
        if self._ending is not None and self._ending.closed:
            return "walltime"
        return self._duty.why_leave or ("paused" if self._duty.is_paused and not self.wait else "")

    def _at_end(self) -> Ending | None:
        """The end of the pilot's time, if that is why it goes."""
        return self._ending if self._reason == "walltime" else None

    def _stays_for_silent(self) -> bool:
        """Whether there are tokens that a silent pilot holds, and it will soon be certain whether it is dead."""
        try:
            stays = self._duty.unsure > 0 and self.pool.counts()[State.LOCKED] > 0
        except PoolUnavailable:
            stays = False
        if stays and not self._silent_look_at:
            self._tell(Event("note", message="waiting whether pilots that are silent give a sign of life"))
        self._silent_look_at = time.monotonic() + SILENT_LOOK_SECONDS if stays else 0.0
        return stays

    def _has_reaped(self) -> bool:
        """Whether there is work again that a dead pilot had."""
        try:
            return self._duty.look_after_others() > 0
        except PoolError:  # somebody else will; or it is a server that does not list pilots
            return False

    def _count_unfit(self) -> None:
        """Count what is left in the pool and does not fit, for the summary."""
        # Which tokens a view lists is only known of those that were claimed.
        if self.view or isinstance(self._work, OwnWork):
            return
        with contextlib.suppress(PoolUnavailable):  # nothing hangs on it
            # Not of all there are: a shared pool may hold a million that are meant for others.
            for token in islice(self.pool.tokens(State.TODO), UNFIT_LOOKED_AT):
                if self.where is None or self.where.matches(token.id, token.body):
                    if token.cores > self.workers:
                        self._summary.unfit += 1
                    elif self._horizon is not None and not self._horizon.fits(token):
                        self._summary.too_long += 1

    # --- Claiming and starting ---

    def _refill(self) -> None:
        if self._reason or self._limit_reached():
            self._supply.rest()
            return
        if self._is_ahead or not self._duty.may_claim:
            return
        self._supply.where = self._duty.wanted(self.where)
        left = None if self.max_tasks is None else self.max_tasks - self._started
        settled = self._settled_count
        if self._supply.refill(self._slots.free, left, self._slots.longest):
            self._settled_at_look = settled

    @property
    def _is_ahead(self) -> bool:
        """Whether work ends faster than the pool takes the results: what is claimed now would only wait."""
        return self._courier.waiting > MOST_WAITING

    def _start_what_fits(self) -> None:
        while not self._reason and not self._limit_reached() and self._duty.may_start:
            token = self._supply.take(self._slots.free)
            if token is None:
                return
            self._started += 1
            self._tell(Event("started", token))
            distrust = self._verifier.problem(token) if self._verifier is not None else ""
            if distrust:
                self._deliver(not_trusted(token, distrust))
            elif self._solo is not None and self._solo.is_for(token):
                self._run_alone(self._solo, token)
                if self._supply.wants_more:
                    return
            else:
                self._start(token)

    def _start(self, token: Token) -> None:
        try:
            failed = self._slots.start(token, self._make_room)
        except InfrastructureError as error:  # stop before all the other tokens are in error too
            self._error = error
            self._supply.put_back(token)
            self._started -= 1
        else:
            if failed is not None:
                self._deliver(failed)

    def _make_room(self) -> bool:
        """Bring home what may take all the space of this machine; whether there was anything."""
        if not self._courier.waiting:
            return False
        self._settle()
        return True

    def _begin(self, attempt: Attempt) -> Runner:
        assert self._children is not None
        assert not isinstance(self._work, OwnWork)
        return Runner(
            attempt,
            self._work,
            self._children,
            timeout=self.task_timeout,
            grace=self.grace,
            log_cap=self.log_cap,
            collect=self.collect,
        )

    def _make_solo(self) -> Solo | None:
        if not self._in_process:
            return None
        assert isinstance(self._work, (FunctionWork, OwnWork))
        return Solo(
            self._work,
            self._scratch,
            self.log_cap,
            self.collect,
            is_cancelled=self._duty.is_cancelled,
            at_end=self._at_end,
        )

    def _run_alone(self, solo: Solo, token: Token) -> None:
        """Do the work of a token in this process."""
        self._deliver(solo.run(token))
        if isinstance(self._work, OwnWork) and self._work.in_turn:
            self._settle()

    # --- What came of it ---

    def _deliver(self, result: Result) -> None:
        """Hand over a result that is complete."""
        in_turn = isinstance(self._work, OwnWork) and self._work.in_turn
        if result.outcome.usage is not None and not in_turn:  # else some would be claimed ahead
            self._supply.measure(result.outcome.usage.wall)
        self._delivery.send(result)

    def _settled(self, result: Result, verdict: Verdict) -> None:
        """Count a result that is in the pool, and clear up after it; on the courier's thread."""
        outcome = result.outcome
        if outcome.failure is None and outcome.usage is not None and self._horizon is not None:
            self._horizon.measure(outcome.usage.wall)
        self._summary.count(outcome, verdict)
        self._settled_count += 1
        if result.directory and not outcome.kept:
            remove(result.directory)
        self._tell(Event("finished", result.token, outcome, verdict))

    def _leave(self) -> None:
        """Stop what runs, give back what was claimed, and bring home what is finished."""
        assert self._children is not None
        self._supply.stop()
        self._slots.exited(self._children.wait(0.0))  # what has finished by itself counts
        end = self._at_end()
        self._slots.give_up(end.grace(self.grace) if end is not None else None)
        while len(self._slots):
            self._wait_and_tick()
        self._delivery.let_go()
        self._slots.discard()
        # Who sends a signal may soon send one that cannot be heeded: then no answer is waited for any longer.
        strictly = self._summary.signal is not None
        until = time.monotonic() + PATIENCE_SECONDS
        self._supply.join(PATIENCE_SECONDS / 2 if strictly else None)
        self._summary.released += self._supply.give_back(
            lambda: 0.0 if self._courier.hurried else until - time.monotonic(), strictly=strictly
        )
        self._summary.unsent = self._courier.finish(max(0.0, until - time.monotonic()), strictly=strictly)
        self._summary.spool = str(self._spool.directory) if self._summary.unsent else ""
        self._duty.finish(clean=not self._summary.unsent and not len(self._supply))
        self._children.sweep()

    # --- Telling ---

    def _about(self) -> dict[str, Any]:
        """What others may want to know of this pilot; from any thread."""
        running = self._slots.told() + (self._solo.told() if self._solo is not None else [])
        about = {"slots": self.workers, "version": __version__, "running": running}
        # Of the usual ends nobody needs to be told.
        return {**about, "reason": self.ended_because} if self._reason in UNFIT else about

    def _tell_waiting(self, how: str) -> None:
        if self.wait:
            self._tell(Event("waiting", message=f"the pool is empty; waiting for new tokens ({how})"))

    def _tell_reaped(self, done: Reaped) -> None:
        if done.tokens:
            pilots = ", ".join(done.pilots) or "pilots that are not known"
            tokens = "1 token" if len(done.tokens) == 1 else f"{len(done.tokens)} tokens"
            self._tell(Event("note", message=f"took back {tokens} of {pilots}"))

    def _tell_next_try(self, seconds: float) -> None:
        self._tell(
            Event(
                "waiting",
                message=f"tokens that failed wait for their next try, the first for {seconds:.0f} s",
            )
        )

    def _problem(self, error: PicasError) -> None:
        self._tell(Event("problem", message=str(error)))

    def _tell(self, event: Event) -> None:
        """Call ``on_event``; what it raises ends the pilot, but in order."""
        if self._listener is None:
            return
        try:
            self._listener(event)
        except Exception as error:  # noqa: BLE001 - raised again by `run`
            self._error = self._error or error

    # --- Orders and signals ---

    def _heed(self) -> None:
        """Have orders heard that came just now; on the heart's thread."""
        assert self._children is not None
        if self._solo is not None:
            self._solo.heed(self._on_signal)
        self._children.ring()

    def _alarmed(self, children: Children) -> AbstractContextManager[None]:
        if self._solo is None:
            return contextlib.nullcontext()
        return alarmed(children, self._ending, self._on_alarm)

    def _on_alarm(self) -> None:
        """Stop what runs in this process if the time is over; once, since it may be clearing up when this comes again."""
        if self._ending is not None and self._ending.over and not self._rung:
            self._rung = True
            self._reason = self._reason or "walltime"
            self._interrupt()

    def _on_notice(self) -> None:
        if self._notice is not None and (self._ending is None or not self._ending.closed):
            self._ending = told_now(self._notice)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._solo is not None and self._solo.was_cancelled():
            return
        if self._summary.signal is not None:
            self._slots.kill()
            self._courier.hurry()
        else:
            self._summary.signal = number
            self._reason = "signal"
        self._interrupt()

    def _interrupt(self) -> None:
        if self._solo is not None:
            self._solo.interrupt()
