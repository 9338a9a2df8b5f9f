"""What a store knows of the pilots that work on it, and of what they are ordered."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from picas import machine
from picas.testing.base import StoreFixtures

if TYPE_CHECKING:
    from picas.stores.base import Fleet, Store


def fleet_of(store: Store) -> Fleet:
    """The store's fleet, which it must have."""
    fleet = store.fleet
    assert fleet is not None
    return fleet


class FleetRules(StoreFixtures):
    """Records of pilots, turns and orders."""

    def test_what_a_pilot_says_of_itself_can_be_read_by_others(self, store: Store, url: str) -> None:
        fleet_of(store).beat("node-1-77", {"host": "nöde", "running": ["a/b", "c"], "slots": 2})
        other = self.open(url)
        (record,) = fleet_of(other).pilots()
        other.close()
        assert record.id == "node-1-77"
        assert record.fields == {"host": "nöde", "running": ["a/b", "c"], "slots": 2}
        assert 0 <= record.silent < 60

    def test_a_pilots_newest_word_counts(self, store: Store) -> None:
        fleet = fleet_of(store)
        for n in range(3):
            fleet.beat("p", {"n": n})
        assert [record.fields for record in fleet.pilots()] == [{"n": 2}]

    def test_any_number_of_pilots_is_listed(self, store: Store) -> None:
        fleet = fleet_of(store)
        names = sorted(f"host/{n:04} ü+%" for n in range(520))
        for name in names:
            fleet.beat(name, {})
        assert [record.id for record in fleet.pilots()] == names

    def test_a_forgotten_pilot_is_not_listed_and_may_speak_again(self, store: Store) -> None:
        fleet = fleet_of(store)
        fleet.beat("p", {})
        fleet.beat("q", {})
        fleet.forget("p")
        fleet.forget("p")
        fleet.forget("never there")
        assert [record.id for record in fleet.pilots()] == ["q"]
        fleet.beat("p", {})
        assert [record.id for record in fleet.pilots()] == ["p", "q"]

    def test_records_and_orders_are_no_tokens(self, store: Store) -> None:
        fleet = fleet_of(store)
        fleet.beat("p", {"type": "token", "lock": 0, "done": 0})
        assert fleet.set_control({"paused": []}, None)
        assert list(store.scan()) == []
        assert sum(store.counts().values()) == 0
        assert store.other_documents() == 0

    def test_a_turn_comes_once_in_a_while(self, store: Store) -> None:
        fleet = fleet_of(store)
        assert fleet.take_turn("reap", 3600)
        assert not fleet.take_turn("reap", 3600)
        assert fleet.take_turn("other", 3600)
        assert fleet.take_turn("reap", 0)

    def test_of_many_few_take_a_turn(self, store: Store, url: str) -> None:
        taken: list[bool] = []
        start = threading.Barrier(6)

        def ask() -> None:
            mine = self.open(url)
            start.wait()
            taken.append(fleet_of(mine).take_turn("reap", 3600))
            mine.close()

        threads = [threading.Thread(target=ask) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(taken) == 6
        assert not fleet_of(store).take_turn("reap", 3600)

    def test_what_one_at_a_time_may_have_is_had_by_one(self, store: Store) -> None:
        fleet = fleet_of(store)
        first = fleet.hold("pilot/1", {"id": "a", "host": "nöde"}, 3600)
        assert (first.mine, first.fields) == (True, {})
        second = fleet.hold("pilot/1", {"id": "b"}, 3600, {"n": 1})
        assert (second.mine, second.who, second.fields) == (False, {"id": "a", "host": "nöde"}, {})
        assert fleet.hold("other", {"id": "b"}, 3600).mine
        assert store.other_documents() == 0

    def test_what_was_kept_with_it_goes_to_the_next_one(self, store: Store) -> None:
        fleet = fleet_of(store)
        assert fleet.hold("h", {"id": "a"}, 3600, {"n": [1]}).mine
        assert fleet.hold("h", {"id": "a"}, 3600).fields == {"n": [1]}
        assert not fleet.hold("h", {"id": "b"}, 0, {"n": 5}).mine
        assert fleet.hold("h", {"id": "a"}, 0, {"n": [2]}).mine
        assert not fleet.hold("h", {"id": "b"}, 0).mine
        taken = fleet.hold("h", {"id": "b"}, 3600)
        assert (taken.mine, taken.who, taken.fields) == (True, {"id": "b"}, {"n": [2]})

    def test_who_does_not_prolong_it_loses_it(self, store: Store) -> None:
        fleet = fleet_of(store)
        assert fleet.hold("h", {"id": "a"}, 0.05, {"n": 1}).mine
        give_up = time.monotonic() + 60
        while not fleet.hold("h", {"id": "b"}, 3600).mine:
            assert time.monotonic() < give_up
        assert not fleet.hold("h", {"id": "a"}, 3600).mine

    def test_it_does_not_wait_for_a_process_that_is_gone(self, store: Store) -> None:
        fleet = fleet_of(store)
        here = machine.this_process()
        assert fleet.hold("h", {"id": "a", "process": here}, 3600).mine
        assert not fleet.hold("h", {"id": "b"}, 3600).mine
        if here:  # where the system tells
            assert fleet.hold("h", {"id": "a", "process": {**here, "begun": 1}}, 3600).mine
            assert fleet.hold("h", {"id": "b"}, 3600).mine

    def test_of_many_who_ask_at_once_one_has_it(self, store: Store, url: str) -> None:
        had: list[str] = []
        start = threading.Barrier(6)

        def ask(name: str) -> None:
            mine = self.open(url)
            start.wait()
            if fleet_of(mine).hold("h", {"id": name}, 3600).mine:
                had.append(name)
            mine.close()

        threads = [threading.Thread(target=ask, args=(f"p{n}",)) for n in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(had) <= 1
        assert fleet_of(store).hold("h", {"id": had[0] if had else "p"}, 3600).mine

    def test_orders_are_read_as_they_were_written(self, store: Store) -> None:
        fleet = fleet_of(store)
        assert fleet.control() == ({}, None)
        orders = {"paused": [{"where": "cores == 4", "why": "déjà"}], "stop": {"p": 12.5}}
        assert fleet.set_control(orders, None)
        assert fleet.control()[0] == orders

    def test_of_two_who_order_at_once_the_second_is_told(self, store: Store) -> None:
        fleet = fleet_of(store)
        assert fleet.set_control({"n": 1}, None)
        assert not fleet.set_control({"n": 2}, None)
        version = fleet.control()[1]
        assert fleet.set_control({"n": 3}, version)
        assert not fleet.set_control({"n": 4}, version)
        assert fleet.control()[0] == {"n": 3}
