"""Documents that are not as they should be: they neither stop a pilot nor hide what lies beside them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from tests.cli.conftest import Shell

from picas.errors import PoolRefused, PoolUnavailable, TokenRefused
from picas.finishing import Result
from picas.pilot.loop import Pilot
from picas.pool import open_pool
from picas.spool.spool import Spool
from picas.tokens import Outcome, State, Token

if TYPE_CHECKING:
    from pathlib import Path

    from tests.couchdb.servers import DatabaseServer

FREE: dict[str, Any] = {
    "type": "token",
    "lock": 0,
    "done": 0,
    "hostname": "",
    "scrub_count": 0,
    "exit_code": "",
    "input": "echo ok",
}

ODD: dict[str, dict[str, Any]] = {
    "lock is a string": {"lock": "0"},
    "lock is a list of lists": {"lock": [[[[0]]]]},
    "input is null": {"input": None},
    "input is an object": {"input": {"a": 1}},
    "picas is a word": {"picas": "what"},
    "picas is half of it": {"picas": {"run": 7, "history": "x", "attempt": "y", "push": {"a": 1}}},
    "error is a word": {"error": "bad", "scrub_count": "many"},
    "priority is a word": {"priority": "high", "cores": "four"},
    "thirty thousand keys": {"data": {f"k{n}": n for n in range(30_000)}},
    "files with a slash": {
        "_attachments": {"dir/sub/x y.txt": {"content_type": "text/plain", "data": "aGk="}},
    },
}

NEITHER: dict[str, dict[str, Any]] = {
    "no lock": {"lock": None},
    "lock is a word": {"lock": "yes"},
    "done is an object": {"lock": 5, "done": {"a": 1}},
}

IDS = [
    "a/b",
    "what?",
    "#1",
    "50%",
    "%2F",
    "c+d",
    "e f",
    "grün",
    "🚀",
    "line\nend",
    "..",
    "a&b=c",
    "-v",
    "'\"`$(x)",
]


def store(couchdb: DatabaseServer, database: str, *docs: dict[str, Any]) -> None:
    """Put documents there as any program might."""
    _, rows = couchdb.ask("POST", urlsplit(database).path + "/_bulk_docs", {"docs": docs})
    assert all(row.get("ok") for row in rows), rows


def put_nested(couchdb: DatabaseServer, database: str, name: str, depth: int) -> None:
    """A token whose input is a list in a list in a list…, which no encoder of ours could write."""
    rest = json.dumps({**FREE, "_id": name, "input": "INPUT"})
    body = rest.replace('"INPUT"', "[" * depth + "]" * depth).encode()
    status, answer = couchdb.ask("PUT", f"{urlsplit(database).path}/{name}", body)
    assert status == 201, answer


def run(url: str, tmp_path: Path, **knobs: Any) -> tuple[Any, list[str]]:
    """One pilot; what it did, and what it said went wrong."""
    problems: list[str] = []
    with open_pool(url) as pool:
        pilot = Pilot(
            pool,
            scratch=tmp_path,
            spool=tmp_path / "spool",
            on_event=lambda event: problems.append(event.message) if event.kind == "problem" else None,
            **knobs,
        )
        return pilot.run(), problems


def test_a_pilot_works_on_beside_odd_documents(
    couchdb: DatabaseServer, database: str, tmp_path: Path
) -> None:
    store(
        couchdb, database, *({"_id": name, **FREE, **fields} for name, fields in {**ODD, **NEITHER}.items())
    )
    store(couchdb, database, {"_id": "no token", "x": 1}, {"_id": "plain", **FREE})
    summary, problems = run(database, tmp_path, collect=["*"])
    without_command = {"input is null", "input is an object"}
    assert problems == []
    assert (summary.done, summary.error) == (len(ODD) - len(without_command) + 1, len(without_command))
    with open_pool(database) as pool:
        states = {token.id: token.state for token in pool.tokens()}
        assert {name for name, state in states.items() if state is None} == set(NEITHER)
        assert {name for name, state in states.items() if state is State.ERROR} == without_command
        counts = pool.counts()
        assert (counts[State.TODO], counts[None]) == (0, len(NEITHER))
        kept = pool.get("files with a slash")
        assert b"".join(pool.read_attachment(kept.id, "dir/sub/x y.txt")) == b"hi"
        assert len(pool.get("thirty thousand keys").body["data"]) == 30_000


def test_any_id_goes_through_a_life(couchdb: DatabaseServer, database: str, tmp_path: Path) -> None:
    store(couchdb, database, *({"_id": name, **FREE, "input": 'printf %s "$PICAS_TOKEN_ID"'} for name in IDS))
    summary, problems = run(database, tmp_path)
    assert (summary.done, problems) == (len(IDS), [])
    shell = Shell(tmp_path, database)
    for name in IDS:
        assert shell.here("logs", "--", name).out.rstrip("\n") == name
        assert shell.here("show", "--", name).code == 0
    with open_pool(database) as pool:
        assert pool.reset(pool.tokens()) == len(IDS)
        assert pool.delete(pool.tokens()) == len(IDS)


def test_collected_files_whose_names_begin_with_an_underscore_come_back_as_they_were(
    database: str, tmp_path: Path
) -> None:
    with open_pool(database) as pool:
        pool.push([{"_id": "t", "input": "echo a > _a.txt; mkdir _d; echo b > _d/b.txt; echo c > c_.txt"}])
    summary, problems = run(database, tmp_path, collect=["**/*"])
    assert (summary.done, problems) == (1, [])
    assert Shell(tmp_path, database).here("get", "t", "--output", "saved").code == 0
    saved = {path.relative_to(tmp_path / "saved").as_posix() for path in (tmp_path / "saved").rglob("*.txt")}
    assert {name.removeprefix("t/") for name in saved} == {"_a.txt", "_d/b.txt", "c_.txt"}


@pytest.mark.couchdb
def test_what_is_nested_too_deep_hides_nothing_and_can_be_looked_at_and_removed(
    real_couchdb: DatabaseServer, database: str, tmp_path: Path
) -> None:
    put_nested(real_couchdb, database, "deep", 15_000)
    store(real_couchdb, database, {"_id": "plain", **FREE}, {"_id": "zlast", **FREE})
    summary, problems = run(database, tmp_path)
    assert summary.done == 2
    assert len(problems) == 1
    assert "deep" in problems[0]
    assert "nested too deep; it cannot be claimed and stays todo" in problems[0]
    shell = Shell(tmp_path, database)
    listed = {row["id"]: row for row in shell.here("list", "--json").json_lines}
    assert [listed[name]["state"] for name in ("deep", "plain", "zlast")] == ["todo", "done", "done"]
    assert "(nested too deep to be read)" in shell.here("show", "deep").out
    assert shell.here("show", "--json", "deep").json["_id"] == "deep"
    assert shell.here("status", "--json").json["todo"] == 1
    assert "deleted 1 token" in shell.here("delete", "deep", "--yes").out
    assert shell.here("status", "--json").json["todo"] == 0


@pytest.mark.couchdb
def test_what_kills_the_servers_javascript_is_told_as_that(
    real_couchdb: DatabaseServer, database: str
) -> None:
    put_nested(real_couchdb, database, "deadly", 300_000)
    with pytest.raises(PoolUnavailable) as caught, open_pool(database, patience=0.5) as pool:
        pool.counts()
    assert "os_process_error" in str(caught.value) or "exit_status" in str(caught.value)
    assert "nested too deep for it" in str(caught.value)


RULE = """function (doc, old, user) {
  if (/^forbidden/.test(doc._id)) throw {forbidden: 'not this one'};
  if (doc.picas && doc.picas.run && doc.picas.run.exit_code === 7) throw {forbidden: 'no sevens'};
}"""


@pytest.fixture
def ruled(real_couchdb: DatabaseServer, database: str) -> str:
    """A database with a rule about who writes what; some tokens are from before it."""
    names = ["forbidden_0", "forbidden_1", *(f"t{n}" for n in range(8))]
    store(real_couchdb, database, *({"_id": name, **FREE} for name in names))
    store(real_couchdb, database, {"_id": "_design/rules", "validate_doc_update": RULE})
    return database


@pytest.mark.couchdb
def test_tokens_that_a_rule_forbids_to_claim_stop_nothing_and_are_told_once(
    ruled: str, tmp_path: Path
) -> None:
    summary, problems = run(ruled, tmp_path)
    assert summary.done == 8
    assert len(problems) == 1
    assert "not this one" in problems[0]
    assert "(and 1 more)" in problems[0]
    assert "validate_doc_update" in problems[0]


@pytest.mark.couchdb
def test_a_row_that_is_refused_harms_no_other_of_its_bulk(ruled: str) -> None:
    with open_pool(ruled) as pool:
        claimed: list[Token] = []
        while len(claimed) < 8:
            claimed += pool.claim_many(8)
        results = [Result(token, Outcome(7 if n == 3 else 0, 1.0, 2.0)) for n, token in enumerate(claimed)]
        with pytest.raises(TokenRefused, match="no sevens"):
            pool.finish_many(results)
        assert pool.counts()[State.DONE] == 7
        assert pool.get(claimed[3].id).state is State.LOCKED


@pytest.mark.couchdb
def test_a_result_that_a_rule_refuses_waits_in_the_spool_while_the_pilot_goes_on(
    ruled: str, tmp_path: Path
) -> None:
    with open_pool(ruled) as pool:
        pool.push([{"_id": "seven", "input": "exit 7", "priority": 5}])
    summary, problems = run(ruled, tmp_path)
    assert (summary.done, summary.unsent) == (8, 1)
    assert any("the pool does not take the result of seven" in problem for problem in problems)
    assert Spool(tmp_path / "spool", pool.url).waiting() == 1


@pytest.mark.couchdb
def test_reset_and_delete_tell_what_was_refused_and_do_the_rest(ruled: str, tmp_path: Path) -> None:
    shell = Shell(tmp_path, ruled)
    said = shell.here("delete", "todo", "--yes")
    assert said.code == 1
    assert "not this one" in said.err
    assert "8 others were removed" in said.err
    assert shell.here("status", "--json").json["total"] == 2


@pytest.mark.couchdb
def test_who_may_not_write_at_all_is_told_at_once(
    real_couchdb: DatabaseServer, database: str, tmp_path: Path
) -> None:
    store(real_couchdb, database, *({"_id": f"t{n}", **FREE} for n in range(50)))
    rule = "function () { throw {forbidden: 'readers only'}; }"
    with open_pool(database) as pool:
        pool.counts()
    store(real_couchdb, database, {"_id": "_design/rules", "validate_doc_update": rule})
    with pytest.raises(PoolRefused, match=r"no token can be claimed.*readers only"):
        run(database, tmp_path)
    (tmp_path / "new.txt").write_text("echo new\n")
    said = Shell(tmp_path, database).here("push", "new.txt")
    assert said.code == 1
    assert "readers only" in said.err
