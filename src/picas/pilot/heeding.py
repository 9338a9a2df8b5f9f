"""The signals that a pilot heeds while it works, and what was done with them before."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from typing import TYPE_CHECKING, Any, Callable

from picas.pilot.ending import ALARM
from picas.work.children import in_main_thread
from picas.work.inprocess import THREAD_MARK

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from picas.pilot.ending import Ending
    from picas.work.children import Children

    Handler = Callable[[int, "FrameType | None"], None]

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

NUDGES = (0.1, 0.4, 1.5)
"""Pauses after a signal, seconds, before the main thread is woken in case it sleeps although it was to hear of it."""


@contextlib.contextmanager
def heeded(
    children: Children, on_stop: Handler, notice: int | None, on_notice: Callable[[], None]
) -> Iterator[None]:
    """Have signals heard; nothing in another thread than the main one.

    Args:
        children: its waits end when a signal comes.
        on_stop: for INT, TERM and HUP.
        notice: a signal that says that the time is nearly over: batch systems send it themselves, if they are told
            to, and not only to the work.
        on_notice: called when it comes.
    """
    if not in_main_thread():
        yield
        return
    # What our caller has us ignore (nohup, a job in a script's background) stays ignored.
    wanted = [number for number in STOP_SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before: dict[int, Any] = {number: signal.signal(number, on_stop) for number in wanted}
    # Not ignored, whatever our parent thought, else the exit codes of children are lost.
    noticed = children.needs_signal
    if notice is not None and notice not in before:
        before[notice] = signal.signal(notice, _for_this_process(on_notice, signal.getsignal(notice)))
    before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, _end_wait if noticed else signal.SIG_DFL)
    wakeup = signal.set_wakeup_fd(children.bell_fd, warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)


@contextlib.contextmanager
def alarmed(children: Children, ending: Ending | None, on_alarm: Callable[[], None]) -> Iterator[None]:
    """Let a function that runs in the main thread be interrupted: by signals, and when the time is over.

    Python runs handlers between two steps of a program, or when a signal breaks off what the system was asked for. One
    that comes just before a program asks to sleep for long is noted, and breaks off nothing. So a thread hears of each
    as well, and has the main thread looked after a few times.

    Args:
        on_alarm: called when the time may be over.
    """
    if not in_main_thread():
        yield
        return
    main = threading.main_thread().ident
    assert main is not None
    before = signal.signal(ALARM, lambda *_: on_alarm())
    over = threading.Event()
    heard, told = socket.socketpair()
    told.setblocking(False)

    def nudge() -> None:
        while numbers := heard.recv(64):
            children.ring()
            for seconds in NUDGES if set(numbers) & set(STOP_SIGNALS) else ():
                if over.wait(seconds):
                    return
                signal.pthread_kill(main, ALARM)

    thread = threading.Thread(target=nudge, name=THREAD_MARK + "nudge", daemon=True)
    thread.start()
    wakeup = signal.set_wakeup_fd(told.fileno(), warn_on_full_buffer=False)
    answered = ending.ring_main_thread() if ending is not None else over
    try:
        yield
    finally:
        answered.set()
        over.set()
        signal.set_wakeup_fd(wakeup)
        told.close()
        thread.join()
        heard.close()
        signal.signal(ALARM, before if before is not None else signal.SIG_DFL)


def _for_this_process(action: Callable[[], None], before: Any) -> Handler:
    """A handler for this process; in a child, a function's say, it does what was done before there was one."""
    own = os.getpid()

    def handle(number: int, _frame: FrameType | None) -> None:
        if os.getpid() == own:
            action()
        else:
            signal.signal(number, before)
            os.kill(os.getpid(), number)

    return handle


def _end_wait(number: int, frame: FrameType | None) -> None:
    """Let a signal end a wait, and do nothing else."""
