"""A pilot within a larger program."""

from __future__ import annotations

import threading
import time


def test_a_pilot_runs_in_any_thread_and_is_stopped_from_any_other(bench, eventually):
    bench.push("sleep 1000", "sleep 1000")
    pilot = bench.pilot(workers=2, grace=500)
    found = []
    thread = threading.Thread(target=lambda: found.append(pilot.run()))
    thread.start()
    eventually(lambda: [event.kind for event in bench.events].count("started") == 2)
    pilot.stop()
    thread.join(120)
    assert not thread.is_alive()
    assert (found[0].reason, found[0].released, found[0].signal) == ("stopped", 2, None)
    assert set(bench.states().values()) == {"todo"}
    assert bench.alive() == []


def test_a_pilot_that_is_stopped_before_it_runs_touches_nothing(bench):
    bench.push("true")
    pilot = bench.pilot()
    pilot.stop()
    assert pilot.run().reason == "stopped"
    assert bench.token().attempt == 0


def test_a_listener_may_stop_the_pilot(bench):
    bench.push(*["true"] * 50)
    pilot = bench.pilot(on_event=lambda event: pilot.stop() if event.kind == "finished" else None)
    summary = pilot.run()
    assert summary.reason == "stopped"
    assert 1 <= summary.done < 50
    assert "locked" not in bench.states().values()


def test_a_pilot_leaves_no_thread_behind(bench):
    before = threading.active_count()
    bench.push("true")
    for _ in range(3):
        bench.run()
    assert threading.active_count() == before


class SilentWatch:
    """Never has news: whoever relies on it waits for ever."""

    how = "not at all"

    def begin(self):
        pass

    def wait(self, ended):
        ended.wait(1)
        return False

    def close(self):
        pass


def test_a_pilot_that_does_not_wait_for_work_ends_also_if_nothing_tells_it_of_any(bench, monkeypatch):
    monkeypatch.setattr(bench.pool.store, "watch", SilentWatch)
    bench.push(*"abcdefgh")
    pilot = bench.pilot(lambda token: time.sleep(0.1))
    found = []
    thread = threading.Thread(target=lambda: found.append(pilot.run()))
    thread.start()
    thread.join(120)
    pilot.stop()
    thread.join(120)
    assert (found[0].done, found[0].reason) == (8, "empty")
