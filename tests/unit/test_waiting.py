"""When a pilot that has found nothing looks again: what counts as news, and the thread that waits for it."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from picas.errors import PicasError, PoolRefused, PoolUnavailable
from picas.pilot import lookout
from picas.pilot.lookout import Lookout
from picas.stores.couch.feed import POLL_SECONDS, POLL_YIELD_SECONDS, News, Pace
from picas.stores.sqlite import timed
from picas.stores.sqlite.timed import TimedWatch

if TYPE_CHECKING:
    from collections.abc import Callable


class TestNews:
    def test_more_free_tokens_than_before_are_news(self) -> None:
        news = News()
        assert [news.told(free) for free in (0, 1, 1, 0, 1, 3)] == [False, True, False, False, True, True]

    def test_what_is_free_after_a_claim_that_got_nothing_is_tried_once_more(self) -> None:
        # It may have come after the claim; or it is not for this pilot.
        news = News()
        news.tried()
        assert news.told(5)
        news.tried()
        assert not news.told(5)

    def test_none_left_after_a_claim_is_no_news(self) -> None:
        news = News()
        assert news.told(1)
        news.tried()
        assert not news.told(0)

    def test_tokens_that_are_not_for_this_pilot_hide_no_others(self) -> None:
        news = News()
        for _ in range(2):
            news.tried()
            news.told(5)
        assert [news.told(free) for free in (5, 4, 5)] == [False, False, True]

    def test_another_token_in_the_place_of_one_that_went_is_tried(self) -> None:
        news = News()
        for _ in range(2):
            news.tried()
            news.told(1)
        assert not news.told(0)
        news.tried()
        assert news.told(1)

    def test_others_are_told_only_of_growth(self) -> None:
        news = News()
        news.tried()
        assert news.told(5)
        assert not news.grown
        assert news.told(6)
        assert news.grown


class TestPace:
    def test_a_distant_server_is_asked_as_often_as_a_near_one(self) -> None:
        for took in (0.002, 0.2):
            pace = Pace()
            for _ in range(20):
                assert POLL_SECONDS[0] <= pace.pause(took) <= POLL_SECONDS[1]

    def test_a_server_that_is_busy_is_asked_less_often(self) -> None:
        pace = Pace()
        pace.pause(0.002)
        assert pace.pause(0.012) >= POLL_SECONDS[0] + POLL_YIELD_SECONDS
        assert pace.pause(5.0) <= POLL_SECONDS[1] + POLL_YIELD_SECONDS


class FakeWatch:
    """Has news when it is told; raises what it is told."""

    how = "as the test says"

    def __init__(self) -> None:
        self.news = threading.Event()
        self.errors: list[Exception] = []
        self.begun = self.waits = self.closed = 0

    def begin(self) -> None:
        self.begun += 1

    def wait(self, ended: threading.Event) -> bool:
        self.waits += 1
        if self.errors:
            raise self.errors.pop(0)
        ended.wait(0.01)
        return self.news.is_set()

    def close(self) -> None:
        self.closed += 1


class Bench:
    """A lookout on such a watch, and what it has told."""

    def __init__(self) -> None:
        self.watch = FakeWatch()
        self.rung = threading.Event()
        self.told: list[str] = []
        self.problems: list[PicasError] = []
        self.lookout = Lookout(self.watch, self.rung.set, self.told.append, self.problems.append)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60.0
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


class TestLookout:
    def test_it_rings_when_there_is_news_and_waits_on_when_told_to(self, bench: Bench) -> None:
        bench.lookout.begin(0.0)
        assert not bench.rung.wait(0.1)
        bench.watch.news.set()
        assert bench.rung.wait(60)
        assert bench.lookout.news
        waits = bench.watch.waits
        time.sleep(0.05)
        assert bench.watch.waits == waits, "it waits for more before the pilot has claimed"
        bench.lookout.begin(0.0)
        until(lambda: bench.watch.begun == 2)
        assert bench.watch.closed == 0
        bench.lookout.stop()
        bench.lookout.join()

    def test_what_waiting_holds_is_given_back_when_it_ends(self, bench: Bench) -> None:
        bench.lookout.begin(0.0)
        bench.lookout.end()
        until(lambda: bench.watch.closed)
        assert not bench.lookout.news
        bench.lookout.begin(0.0)
        bench.lookout.stop()
        bench.lookout.join()
        assert bench.watch.closed == 2

    def test_it_says_how_it_waits_once_each_time(self, bench: Bench) -> None:
        for _ in range(2):
            bench.lookout.begin(0.0)
            until(lambda: bench.watch.waits > 3)
            bench.lookout.end()
            bench.watch.waits = 0
        bench.lookout.stop()
        bench.lookout.join()
        assert bench.told == ["as the test says"] * 2

    def test_a_pool_that_does_not_answer_is_told_once_and_asked_ever_less(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(lookout, "PAUSE_SECONDS", (0.01, 0.1))
        bench.lookout = Lookout(bench.watch, bench.rung.set, bench.told.append, bench.problems.append)
        bench.watch.errors = [PoolUnavailable(f"away {n}") for n in range(4)]
        bench.watch.news.set()
        begun = time.monotonic()
        bench.lookout.begin(0.0)
        assert bench.rung.wait(60)
        assert time.monotonic() - begun > 0.5 * (0.01 + 0.02 + 0.04 + 0.08)
        assert [str(problem) for problem in bench.problems] == ["away 0"]
        assert bench.lookout.error is None

    def test_a_pool_that_refuses_us_ends_it(self, bench: Bench) -> None:
        bench.watch.errors = [PoolRefused("no")]
        bench.lookout.begin(0.0)
        assert bench.rung.wait(60)
        assert isinstance(bench.lookout.error, PoolRefused)

    def test_a_claim_that_took_long_is_not_made_again_at_once(self, bench: Bench) -> None:
        bench.watch.news.set()
        bench.lookout.begin(lookout.QUICK_SECONDS + 0.1)
        assert not bench.rung.wait(0.3)
        assert bench.rung.wait(60)

    def test_a_pilot_that_ends_does_not_wait_for_a_silent_pool(self, bench: Bench) -> None:
        silent = threading.Event()
        bench.watch.wait = lambda ended: silent.wait(60)  # type: ignore[method-assign,assignment]
        bench.lookout.begin(0.0)
        begun = time.monotonic()
        bench.lookout.stop()
        bench.lookout.join()
        assert time.monotonic() - begun < 30.0
        silent.set()


class Recorded(threading.Event):
    """Lets no time pass, and knows how much would have passed."""

    def __init__(self) -> None:
        super().__init__()
        self.pauses: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self.pauses.append(timeout)
        return False


def test_the_embedded_pool_is_looked_at_ever_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timed, "IDLE_SECONDS", (0.02, 0.2))
    watch = TimedWatch()
    ended = Recorded()
    assert all(watch.wait(ended) for _ in range(8))
    assert 0.01 <= ended.pauses[0] <= 0.02
    assert 0.1 <= ended.pauses[-1] <= 0.2
    watch.close()
    watch.wait(ended)
    assert ended.pauses[-1] <= 0.02


def test_waiting_ends_when_it_is_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timed, "IDLE_SECONDS", (60.0, 60.0))
    watch = TimedWatch()
    ended = threading.Event()
    ended.set()
    begun = time.monotonic()
    watch.wait(ended)
    assert time.monotonic() - begun < 30.0
