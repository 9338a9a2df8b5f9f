"""A pilot's heart: it goes on through every trouble, and says when that is over."""

from __future__ import annotations

import threading
from typing import Any, cast

from picas import machine
from picas.errors import PoolRefused, PoolUnavailable
from picas.pilot import heart
from picas.pilot.heart import Heart


class Fleet:
    """A fleet that answers when it is told to."""

    steady = False

    def __init__(self) -> None:
        self.beats = 0
        self.answers = True

    def beat(self, pilot: str, fields: Any) -> None:
        if not self.answers:
            raise PoolUnavailable("away")
        self.beats += 1

    def control(self) -> tuple[dict[str, Any], Any]:
        return {}, None

    def take_turn(self, name: str, seconds: float) -> bool:
        return False


class Reaper:
    """A reaper that has nothing to do."""

    def in_touch(self) -> None:
        pass

    def out_of_touch(self) -> None:
        pass

    def reap(self) -> None:
        raise PoolRefused("this server lists no pilots")


def made(fleet: Fleet, heard: threading.Event, lease: float = 600.0) -> Heart:
    return Heart(
        cast("Any", fleet),
        "p",
        dict,
        cast("Any", Reaper()),
        lease,
        0.05,
        lambda _: heard.set(),
        lambda _: None,
    )


def test_the_pilot_is_told_when_the_pool_answers_again(monkeypatch):
    monkeypatch.setattr(heart, "PAUSE_SECONDS", (0.01, 0.02))
    fleet, heard = Fleet(), threading.Event()
    beating = made(fleet, heard)
    beating.start()
    assert beating.ready.wait(60)
    assert not heard.is_set()
    fleet.answers = False
    threading.Event().wait(0.3)
    assert not heard.is_set()
    fleet.answers = True
    assert heard.wait(60)
    assert beating.lapses == 0
    beating.stop()
    beating.join(60)


def test_a_silence_longer_than_the_lease_is_counted_before_the_next_sign_hides_it(monkeypatch):
    fleet, heard = Fleet(), threading.Event()
    beating = made(fleet, heard)
    now = [1000.0]
    monkeypatch.setattr(machine, "clock", lambda: ("here", now[0]))
    beating.start()
    assert beating.ready.wait(60)
    assert not beating.overdue
    now[0] += 601  # it was asleep
    assert beating.overdue or beating.lapses
    assert heard.wait(60)
    assert (beating.lapses, beating.overdue) == (1, False)
    beating.stop()
    beating.join(60)


def test_a_server_that_does_not_list_pilots_gets_signs_of_life_all_the_same(monkeypatch):
    fleet = Fleet()
    monkeypatch.setattr(Fleet, "take_turn", lambda *_: True)
    monkeypatch.setattr(heart, "IDLE_SECONDS", (0.01, 0.01))
    beating = made(fleet, threading.Event())
    beating.start()
    assert beating.ready.wait(60)
    began = fleet.beats
    while fleet.beats <= began and beating.is_alive():
        threading.Event().wait(0.01)
    assert beating.error is None
    beating.stop()
    beating.join(60)
