"""What members of a guarded database may do, and what they may not, whatever program they use."""

from __future__ import annotations

import copy
import json
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable

import pytest
from tests.couchdb.processes import ask

from picas import machine, tokens
from picas.budgets import Budgets
from picas.cli.main import run
from picas.errors import PoolRefused, TokenRefused
from picas.finishing import Result, Verdict
from picas.fleet.reaping import Reaper
from picas.pilot.loop import Pilot
from picas.pool import Pool, open_pool
from picas.stores import design
from picas.stores.base import Change
from picas.stores.couch.store import CouchStore
from picas.tokens import Claimer, Outcome, State, Token

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.couchdb.servers import CouchServer

pytestmark = pytest.mark.couchdb

LOG = tokens.Failure.APPLICATION


@dataclass
class Account:
    """Somebody with an account on the server."""

    name: str
    password: str
    url: str

    @property
    def pool(self) -> Pool:
        return open_pool(self.url)

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        return ask(self.url, method, path, body)


class Guarded:
    """A guarded database and those who use it."""

    def __init__(self, server: CouchServer) -> None:
        self.server = server
        self.name = "guarded_" + secrets.token_hex(4)
        self.users: list[str] = []
        assert server.ask("PUT", f"/{self.name}")[0] == 201
        security = {
            "admins": {"names": [], "roles": ["picas-admin"]},
            "members": {"names": [], "roles": ["picas-user", "picas-pilot"]},
        }
        assert server.ask("PUT", f"/{self.name}/_security", security)[0] == 200
        self.admin = self.account("picas-admin")
        store = self.admin.pool.store
        assert isinstance(store, CouchStore)
        assert [made.outcome for made in store.designs.create_own()] == ["created", "created"]
        assert store.designs.create_guard().outcome == "created"
        self.user = self.account("picas-user")
        self.pilot = self.account("picas-pilot")
        self.other = self.account("picas-pilot")

    def account(self, *roles: str) -> Account:
        name, password = "user-" + secrets.token_hex(4), secrets.token_hex(8)
        user = {"name": name, "password": password, "roles": list(roles), "type": "user"}
        assert self.server.ask("PUT", f"/_users/org.couchdb.user:{name}", user)[0] == 201
        origin = self.server.origin.replace("://", f"://{name}:{password}@")
        return Account(name, password, f"{origin}/{self.name}")

    def document(self, token_id: str = "token_0") -> dict[str, Any]:
        status, found = self.server.ask("GET", f"/{self.name}/{token_id}")
        assert status == 200
        document: dict[str, Any] = found
        return document


@pytest.fixture(scope="module")
def guarded(strict_couchdb: CouchServer) -> Iterator[Guarded]:
    """One for all tests: they push tokens of their own."""
    guarded = Guarded(strict_couchdb)
    yield guarded
    strict_couchdb.ask("DELETE", f"/{guarded.name}")


@pytest.fixture
def token(guarded: Guarded) -> Iterator[str]:
    """A new token that a user has pushed; there is no other while the test runs."""
    token_id = "t-" + secrets.token_hex(4)
    guarded.user.pool.push([{"_id": token_id, "input": "echo 1", "site": {"a": [1, 2.5, None]}}])
    yield token_id
    status, found = guarded.server.ask("GET", f"/{guarded.name}/{token_id}")
    if status == 200:
        guarded.server.ask("DELETE", f"/{guarded.name}/{token_id}?rev={found['_rev']}")


def _put(account: Account, document: dict[str, Any]) -> tuple[int, str]:
    status, answer = account.ask("PUT", f"/{document['_id']}", document)
    return status, str(answer.get("reason", ""))


def _changed(document: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(document)
    *above, last = path.split(".")
    place = changed
    for name in above:
        place = place[name]
    place[last] = value
    return changed


def _claimed(account: Account, token_id: str) -> Token:
    claimed = account.pool.claim()
    assert claimed is not None
    assert claimed.id == token_id
    return claimed


# --- What they may -----------------------------------------------------------------------------------


def test_a_pilots_account_is_enough_for_a_pilot(guarded: Guarded, token: str, tmp_path: Path) -> None:
    guarded.user.pool.push([{"_id": f"{token}-bad", "input": "exit 3"}])
    summary = Pilot(guarded.pilot.pool, spool=tmp_path, max_scrub=1, collect=["*"]).run()
    assert (summary.done, summary.error, summary.unsent) == (1, 1, 0)
    ended = guarded.document(token)
    assert ended["picas"]["run"]["user"] == guarded.pilot.name
    assert set(ended["_attachments"]) == {f"logs_{token}.out", f"logs_{token}.err"}
    assert guarded.document(f"{token}-bad")["picas"]["attempt"] == 2
    assert guarded.user.pool.delete(guarded.user.pool.tokens(ids=[f"{token}-bad"])) == 1


def test_what_a_pilot_has_claimed_it_may_give_back(guarded: Guarded, token: str) -> None:
    pool = guarded.pilot.pool
    assert pool.release([_claimed(guarded.pilot, token)]) == 1
    assert pool.get(token).state is State.TODO


def test_users_push_reset_and_delete(guarded: Guarded, token: str) -> None:
    pool = guarded.user.pool
    claimed = _claimed(guarded.user, token)
    assert pool.finish(claimed, Outcome(1, 1e9, 1e9, LOG)) is Verdict.ERROR
    assert pool.reset(pool.tokens(ids=[token])) == 1
    assert pool.delete(pool.tokens(ids=[token])) == 1


def test_a_late_result_is_kept_beside_that_of_another_user(guarded: Guarded, token: str) -> None:
    from picas.payload import Payload

    late = _claimed(guarded.pilot, token)
    guarded.admin.pool.reset(guarded.admin.pool.tokens(ids=[token]))
    newer = _claimed(guarded.other, token)
    log = Payload(f"logs_{token}.out", "text/plain", (b"late\n",))
    result = Result(late, Outcome(0, 1e9, 1e9), (log,))
    assert guarded.pilot.pool.finish_many([result]) == [Verdict.SUPERSEDED]
    again = Result(newer, Outcome(0, 1e9, 1e9), (Payload(f"logs_{token}.out", "text/plain", (b"new\n",)),))
    assert guarded.other.pool.finish_many([again]) == [Verdict.DONE]
    kept = guarded.pilot.pool.get(token)
    assert sorted(kept.attachments) == [
        f"logs_{token}.out",
        f"logs_{token}.superseded-{late.claim_id:.8}.out",
    ]
    assert [entry.get("superseded") for entry in kept.history] == [None, True]


def test_administrators_may_do_all(guarded: Guarded, token: str) -> None:
    _claimed(guarded.pilot, token)
    document = guarded.document(token)
    assert _put(guarded.admin, _changed(document, "input", "echo 2"))[0] == 201
    assert guarded.server.ask("PUT", f"/{guarded.name}/{token}", guarded.document(token))[0] == 201


def test_a_pilots_account_is_told_by_picas_check_that_it_is_enough(
    guarded: Guarded, picas: Callable[..., tuple[int, str, str]]
) -> None:
    _, told, _ = picas("check", "--json", "--pool", guarded.pilot.url)
    rights = next(each for each in json.loads(told)["checks"] if each["name"] == "rights")
    assert (rights["level"], rights["write"], rights["design"]) == ("ok", True, False)


def test_dead_pilots_of_another_account_are_left_to_it(guarded: Guarded, token: str) -> None:
    guarded.user.pool.push([{"_id": f"{token}-b", "input": "x"}])
    held = {}
    for account in (guarded.pilot, guarded.other):
        claimer = Claimer(account.name, "far", {}, "/nowhere", 60.0)
        claimed = account.pool.claim(claimer)
        assert claimed is not None
        held[account.name] = claimed.id
        fleet = account.pool.store.fleet
        assert fleet is not None
        process = {**machine.this_process(), "begun": 1}
        fleet.beat(account.name, {"lease": 60.0, "interval": 1.0, "process": process})
    done = Reaper(guarded.other.pool, Budgets()).reap(sure=True)
    assert (done.tokens, done.pilots, done.others) == (
        [held[guarded.other.name]],
        [guarded.other.name],
        {guarded.pilot.name},
    )
    done = Reaper(guarded.pilot.pool, Budgets()).reap(sure=True)
    assert (done.tokens, done.pilots) == ([held[guarded.pilot.name]], [guarded.pilot.name])
    guarded.admin.pool.delete(guarded.admin.pool.tokens(ids=[f"{token}-b"]))


# --- What they may not -------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["pilot", "user"])
def test_members_do_not_change_design_documents(guarded: Guarded, role: str) -> None:
    account: Account = getattr(guarded, role)
    for name in ("picas-guard", "picas", "Evil"):
        status, found = account.ask("GET", f"/_design/{name}")
        body = {**(found if status == 200 else {}), "language": "javascript", "views": {}}
        assert account.ask("PUT", f"/_design/{name}", body)[0] == 403
        if status == 200:
            assert account.ask("DELETE", f"/_design/{name}?rev={found['_rev']}")[0] == 403
    before = guarded.server.ask("GET", f"/{guarded.name}/_security")
    assert account.ask("PUT", "/_security", {})[0] >= 400
    assert guarded.server.ask("GET", f"/{guarded.name}/_security") == before
    store = account.pool.store
    assert isinstance(store, CouchStore)
    with pytest.raises(PoolRefused, match="only an administrator"):
        store.designs.remove("picas-guard", force=True)


STOLEN = {
    "released": lambda doc: {**doc, "lock": 0},
    "finished": lambda doc: {**doc, "done": 1, "exit_code": 0},
    "taken over": lambda doc: _changed(doc, "picas.run.user", "ME"),
    "claimed anew": lambda doc: _changed(doc, "picas.run.claim", "0" * 24),
    "no token any more": lambda doc: {**doc, "type": "note"},
    "deleted": lambda doc: {**doc, "_deleted": True},
    "stripped": lambda doc: {name: doc[name] for name in ("_id", "_rev", "type")},
    "without us": lambda doc: {**doc, "picas": {}},
    "other work": lambda doc: {**doc, "input": "rm -rf ~"},
    "logs replaced": lambda doc: {
        **_changed(doc, "picas.history", [{"a": 1}]),
        "_attachments": {f"logs_{doc['_id']}.out": {"data": "ZXZpbA==", "content_type": "text/plain"}},
    },
    "logs removed": lambda doc: {**_changed(doc, "picas.history", [{"a": 1}]), "_attachments": {}},
    "history replaced": lambda doc: _changed(doc, "picas.history", [{"a": 1}, {"b": 2}]),
}


@pytest.mark.parametrize(
    ("role", "how"), [*(("user", how) for how in STOLEN), ("other", "released"), ("other", "taken over")]
)
def test_nobody_touches_a_token_that_another_user_holds(
    guarded: Guarded, token: str, role: str, how: str
) -> None:
    attacker: Account = getattr(guarded, role)
    claimed = _claimed(guarded.pilot, token)
    written = {"data": "aGVsbG8=", "content_type": "text/plain"}
    before = {**guarded.document(token), "_attachments": {f"logs_{token}.out": written}}
    assert _put(guarded.pilot, _changed(before, "picas.history", [{"attempt": 0}]))[0] == 201
    document = guarded.document(token)
    stolen = json.loads(json.dumps(STOLEN[how](document)).replace('"ME"', json.dumps(attacker.name)))
    assert _put(attacker, stolen) == (403, f"PiCaS guard: the token is held by {guarded.pilot.name}")
    with pytest.raises(TokenRefused, match="is held by"):
        attacker.pool.reset(attacker.pool.tokens(ids=[token]))
    assert guarded.document(token) == document
    held = guarded.pilot.pool.get(token)
    assert held.claim_id == claimed.claim_id


def test_a_lock_is_not_set_in_the_name_of_another(guarded: Guarded, token: str) -> None:
    free = guarded.document(token)
    for holder in ({"user": guarded.user.name}, {}, {"mends": True}, "text", None):
        locked = {**free, "lock": 1, "picas": {**free["picas"], "run": holder}}
        status, reason = _put(guarded.pilot, locked)
        assert (status, reason[:34]) == (403, "PiCaS guard: a token is locked in ")
    ours = {**free, "lock": 1, "picas": {**free["picas"], "run": {"user": guarded.pilot.name}}}
    assert _put(guarded.pilot, ours)[0] == 201
    made = {"_id": token + "-x", "type": "token", "lock": 5, "done": 0, "picas": {"run": {"user": "x"}}}
    assert _put(guarded.user, made)[0] == 403


@pytest.mark.parametrize(
    "change",
    [
        {"input": "rm -rf ~"},
        {"cores": 64},
        {"site": {"a": [1, 2.5, 0]}},
        {"site": {"a": [1, 2.5, None], "b": 1}},
        {"type": "note"},
        {"picas": {"push": "x"}},
        {"picas": {"signature": {"key": "x"}}},
        {"lock": 1, "done": 1, "exit_code": 0},
        {"_deleted": True},
    ],
)
def test_a_pilots_account_does_not_say_what_is_done(
    guarded: Guarded, token: str, change: dict[str, Any]
) -> None:
    document = guarded.document(token)
    status, reason = _put(guarded.pilot, {**document, **change})
    assert status == 403
    assert reason.startswith("PiCaS guard: ")
    assert guarded.document(token) == document


def test_nor_does_it_for_tokens_that_it_holds_or_that_have_ended(guarded: Guarded, token: str) -> None:
    claimed = _claimed(guarded.pilot, token)
    assert _put(guarded.pilot, {**guarded.document(token), "input": "rm -rf ~"})[0] == 403
    guarded.pilot.pool.finish(claimed, Outcome(0, 1e9, 1e9))
    assert (
        _put(guarded.pilot, {**guarded.document(token), "input": "rm -rf ~", "lock": 0, "done": 0})[0] == 403
    )
    assert _put(guarded.other, {**guarded.document(token), "lock": 0, "done": 0})[0] == 403
    assert _put(guarded.other, {**guarded.document(token), "exit_code": 1})[0] == 403


def test_it_adds_nothing(guarded: Guarded) -> None:
    with pytest.raises((TokenRefused, PoolRefused), match="PiCaS guard"):
        guarded.pilot.pool.push(["rm -rf ~"])
    for kind in ("token", "picas", "note", None):
        document = {"_id": "evil", "type": kind, "lock": 0, "done": 0, "input": "rm -rf ~"}
        assert _put(guarded.pilot, document)[0] == 403
    assert _put(guarded.pilot, {"_id": "picas_control", "type": "picas", "paused": True})[0] == 403


def test_a_token_without_our_part_and_of_odd_shapes_breaks_no_rule(guarded: Guarded) -> None:
    for place, ours in enumerate((None, 5, [], {"run": 3}, {"run": {"user": {"a": 1}}, "history": "x"})):
        odd = {"_id": f"odd-{place}", "type": "token", "lock": 0, "done": 0, "input": "x", "picas": ours}
        assert _put(guarded.user, odd)[0] == 201
        document = guarded.document(odd["_id"])
        assert _put(guarded.pilot, {**document, "input": "y"})[0] == 403
        assert guarded.user.ask("DELETE", f"/odd-{place}?rev={document['_rev']}")[0] == 200


# --- The document ------------------------------------------------------------------------------------


@pytest.fixture
def picas(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """The command line, of somebody without a configuration: exit code and what was printed."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))

    def call(*words: str) -> tuple[int, str, str]:
        code = run(words)
        return (code, *capsys.readouterr())

    return call


def test_the_guard_is_made_by_the_command_line_kept_current_and_removed_only_on_purpose(
    picas: Callable[..., tuple[int, str, str]], strict_couchdb: CouchServer
) -> None:
    name = "made_" + secrets.token_hex(4)
    pool = ("--pool", f"{strict_couchdb.url}/{name}")
    path = f"/{name}/_design/picas-guard"
    try:
        made = picas("init", "--create", "--member", "@picas-pilot", "--guard", "--json", *pool)
        assert json.loads(made[1])["designs"]["picas-guard"] == "created"
        assert picas("views", "create", "--guard", *pool)[1].splitlines()[0] == "picas-guard: unchanged"
        listed = json.loads(picas("views", "list", "--json", *pool)[1])["designs"]
        found = next(each for each in listed if each["name"] == "picas-guard")
        assert (found["kind"], found["standing"]) == ("guard", "current")
        assert "PiCaS's rules for members" in picas("views", "list", *pool)[1]
        edited = {**strict_couchdb.ask("GET", path)[1], "validate_doc_update": "function () {}"}
        assert strict_couchdb.ask("PUT", path, edited)[0] == 201
        code, _, told = picas("views", "create", *pool)
        assert code == 2
        assert "was changed by somebody; it is left as it is" in told
        assert picas("views", "create", "--force", *pool)[1].splitlines()[0] == "picas-guard: updated"
        older = strict_couchdb.ask("GET", path)[1]
        text = "function () { return 1; }"
        older.update(validate_doc_update=text, picas={"version": 1, "digest": design._text_digest(text)})
        assert strict_couchdb.ask("PUT", path, older)[0] == 201
        assert picas("views", "create", *pool)[1].splitlines()[0] == "picas-guard: updated"
        assert picas("views", "remove", "picas-guard", *pool)[0] == 2
        assert picas("views", "remove", "picas-guard", "--force", *pool)[0] == 0
    finally:
        strict_couchdb.ask("DELETE", f"/{name}")


def test_a_file_has_no_users(picas: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    pool = f"sqlite:///{tmp_path}/pool.db"
    open_pool(pool).close()
    code, _, told = picas("views", "create", "--guard", "--pool", pool)
    assert code == 2
    assert "has no users whom rules could be for" in told


def test_what_pilots_write_is_the_same_in_both_languages() -> None:
    text = design.guard()["validate_doc_update"]
    listed = text[text.index("var WRITTEN = ") + len("var WRITTEN = ") :].partition(";")[0]
    assert set(json.loads(listed)) == tokens.RESERVED_FIELDS - {"type"}


def test_a_history_that_is_full_takes_a_late_result_too(guarded: Guarded, token: str) -> None:
    late = _claimed(guarded.pilot, token)
    admin = guarded.admin.pool
    admin.reset(admin.tokens(ids=[token]))
    newer = _claimed(guarded.other, token)
    full = {**newer.picas, "history": [{"attempt": n} for n in range(tokens.MAX_HISTORY)]}
    grown = Token(token, {**newer.body, "picas": full}, newer.rev)
    assert admin.store.replace([Change(grown)])[0] is not None
    assert guarded.pilot.pool.finish_many([Result(late, Outcome(0, 1e9, 1e9))]) == [Verdict.SUPERSEDED]
    history = guarded.document(token)["picas"]["history"]
    assert (len(history), history[-1]["superseded"]) == (tokens.MAX_HISTORY, True)
