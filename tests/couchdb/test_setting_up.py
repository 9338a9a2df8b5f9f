"""Setting up a pool on a server by the command line: `picas init`, `picas check`, `picas passwd`."""

from __future__ import annotations

import json
import os
import secrets
import stat
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pexpect
import pytest
from tests.couchdb.faults import Answer, LoseAnswer
from tests.couchdb.processes import ask
from tests.couchdb.proxy import FaultProxy

from picas.settings.config import parse

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.couchdb.cluster import CouchCluster
    from tests.couchdb.exchange import Request
    from tests.couchdb.servers import CouchServer


class Person:
    """Somebody with a home of their own, and perhaps an account on the server."""

    def __init__(self, home: Path, server: CouchServer) -> None:
        self.home = home
        self.server = server
        self.name = "user-" + secrets.token_hex(4)
        self.password = secrets.token_hex(8)
        self.file = home / "picas" / "config.toml"
        self.environment = {
            **os.environ,
            "HOME": str(home),
            "XDG_CONFIG_HOME": str(home),
            "XDG_STATE_HOME": str(home),
        }

    def register(self, *roles: str) -> None:
        """Get an account."""
        user = {"name": self.name, "password": self.password, "roles": list(roles), "type": "user"}
        assert self.server.ask("PUT", f"/_users/org.couchdb.user:{self.name}", user)[0] == 201

    def picas(self, *words: str, stdin: str = "", **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "picas", *words],
            cwd=self.home,
            env={**self.environment, **more},
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def init(self, pool: str, *words: str) -> subprocess.CompletedProcess[str]:
        """`picas init` with the password on standard input."""
        return self.picas(
            *("init", "--pool", pool, "--user", self.name, "--password-stdin", *words),
            stdin=self.password + "\n",
        )

    def checked(self, *words: str, **more: str) -> dict[str, Any]:
        """What `picas check --json` tells, by name."""
        answer = json.loads(self.picas("check", "--json", *words, **more).stdout)
        return {check["name"]: check for check in answer["checks"]} | {"ok": answer["ok"]}

    @property
    def settings(self) -> dict[str, Any]:
        return parse(self.file, self.file.read_text())

    def logs_in(self, password: str) -> bool:
        """Whether the server takes this password; a wrong one counts against us."""
        origin = self.server.origin.replace("://", f"://{self.name}:{password}@")
        return ask(origin, "GET", "/_session")[0] == 200


@pytest.fixture
def person(tmp_path: Path, strict_couchdb: CouchServer) -> Person:
    """A user of the database `strict`."""
    person = Person(tmp_path, strict_couchdb)
    person.register("picas")
    return person


@pytest.fixture
def admin(tmp_path: Path, strict_couchdb: CouchServer) -> Iterator[Person]:
    """A server administrator, in the server's own configuration."""
    person = Person(tmp_path, strict_couchdb)
    path = f"/_node/_local/_config/admins/{person.name}"
    assert strict_couchdb.ask("PUT", path, person.password)[0] == 200
    yield person
    strict_couchdb.ask("DELETE", path)


@pytest.fixture
def new(strict_couchdb: CouchServer) -> Iterator[str]:
    """The name of a database that is not there yet."""
    name = "new_" + secrets.token_hex(4)
    yield name
    strict_couchdb.ask("DELETE", f"/{name}")


# --- init --------------------------------------------------------------------------------------------


def test_init_asks_and_writes_what_works(person: Person) -> None:
    (person.home / "picas").mkdir()
    person.file.write_text("[run]\nworkers = 3\n")
    terminal = pexpect.spawn(
        sys.executable,
        ["-m", "picas", "init"],
        cwd=person.home,
        env=person.environment,
        encoding="utf-8",
        timeout=30,
    )
    for question, answer in (
        ("Server", person.server.origin),
        ("Database", "strict"),
        ("User", person.name),
        (f"Password of {person.name}", person.password),
    ):
        terminal.expect(f"{question}.*: ")
        terminal.sendline(answer)
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert terminal.exitstatus == 0
    assert person.password not in str(terminal.before)
    assert person.settings == {
        "pool": f"{person.server.origin}/strict",
        "couchdb": {"username": person.name, "password": person.password},
        "run": {"workers": 3},
    }
    assert stat.S_IMODE(person.file.stat().st_mode) == 0o600
    assert person.checked()["login"]["user"] == person.name


def test_init_without_anybody_to_ask(person: Person) -> None:
    done = person.picas("init")
    assert (done.returncode, person.file.exists()) == (2, False)
    assert "--pool" in done.stderr
    done = person.picas(
        "init",
        PICAS_POOL=f"{person.server.origin}/strict",
        PICAS_USERNAME=person.name,
        PICAS_PASSWORD=person.password,
    )
    assert done.returncode == 0, done.stderr
    assert person.settings["couchdb"] == {"username": person.name, "password": person.password}
    assert person.picas("init").returncode == 0  # again, with what is there


def test_init_writes_nothing_that_does_not_work(person: Person) -> None:
    right, person.password = person.password, "not-the-password"
    done = person.init(f"{person.server.origin}/strict")
    assert (done.returncode, person.file.exists()) == (1, False)
    assert "Check name and password" in done.stderr
    person.password = right
    done = person.init(f"{person.server.origin}/nosuchdatabase")
    assert (done.returncode, person.file.exists()) == (1, False)
    assert "there is no database nosuchdatabase" in done.stderr
    assert "picas init --create" in done.stderr
    done = person.init(f"{person.server.origin}/nosuchdatabase", "--create")
    assert (done.returncode, person.file.exists()) == (1, False)
    assert "only a server administrator can make the database" in done.stderr


def test_a_password_in_netrc_stays_there(person: Person) -> None:
    netrc = person.home / ".netrc"
    netrc.write_text(f"machine 127.0.0.1 login {person.name} password {person.password}\n")
    netrc.chmod(0o600)
    done = person.picas("init", "--pool", f"{person.server.origin}/strict", "--json")
    assert json.loads(done.stdout)["password_in"] == "netrc"
    assert person.settings["couchdb"] == {"username": person.name}
    assert person.checked()["ok"]


def test_a_password_on_the_command_line_works_and_is_warned_of(person: Person) -> None:
    netloc = person.server.origin.replace("://", f"://{person.name}:{person.password}@")
    done = person.picas("init", "--pool", f"{netloc}/strict")
    assert done.returncode == 0
    assert "others on this machine can read a password on the command line" in done.stderr
    assert person.password not in done.stdout + done.stderr
    assert person.settings["pool"] == f"{person.server.origin}/strict"


def test_init_makes_a_database_for_its_members(
    admin: Person, new: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    member = Person(tmp_path_factory.mktemp("member"), admin.server)
    member.register("grid")
    pool = f"{admin.server.origin}/{new}"
    done = admin.init(pool, "--create", "--member", "@grid", "--admin", "boss", "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["created"] is True
    assert set(answer["designs"].values()) == {"created"}
    security = admin.server.ask("GET", f"/{new}/_security")[1]
    assert security["members"]["roles"] == ["_admin", "grid"]
    assert security["admins"] == {"names": ["boss"], "roles": ["_admin"]}
    assert json.loads(admin.init(pool, "--create", "--json").stdout)["created"] is False
    assert admin.server.ask("GET", f"/{new}/_security")[1] == security
    assert member.init(pool).returncode == 0
    (member.home / "t.txt").write_text("echo one\n")
    assert member.picas("push", "t.txt").returncode == 0
    assert "1 done" in member.picas("run").stdout


# --- check -------------------------------------------------------------------------------------------


def test_check_of_a_pool_that_is_well(admin: Person, new: str) -> None:
    assert admin.init(f"{admin.server.origin}/{new}", "--create").returncode == 0
    before = admin.server.ask("GET", f"/{new}")[1]["update_seq"]
    done = admin.picas("check")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("all is well\n")
    found = admin.checked()
    looked_at = "address,connection,encryption,server,login,database,rights,copies,quorum,views,conflicts"
    assert [*found][:-1] == [*looked_at.split(","), "round trip", "clock"]
    assert found["login"]["roles"] == ["_admin"]
    assert (found["copies"]["copies"], found["copies"]["nodes"]) == (1, 1)
    assert found["server"]["version"].startswith("3.")
    assert admin.server.ask("GET", f"/{new}")[1]["update_seq"] == before  # nothing was left behind


def test_check_tells_each_thing_that_keeps_pilots_from_working(
    person: Person, admin: Person, new: str
) -> None:
    origin = person.server.origin
    login = {"PICAS_USERNAME": person.name, "PICAS_PASSWORD": person.password}
    wrong = {**login, "PICAS_PASSWORD": "not-the-password"}
    cases: list[tuple[str, dict[str, str], str, str]] = [
        ("http://no-such-host.invalid/db", login, "address", "is not known here"),
        ("http://127.0.0.1:1/db", login, "connection", "Connection refused"),
        (f"{origin}/strict", wrong, "login", "Name or password is incorrect"),
        (f"{origin}/nosuchdatabase", login, "database", "there is no database"),
        (f"{origin}/strict", {}, "database", "is not ours to read"),
    ]
    for pool, environment, name, text in cases:
        done = person.picas("check", "--json", "--pool", pool, **environment)
        last = json.loads(done.stdout)["checks"][-1]
        assert (done.returncode, last["name"], last["level"]) == (1, name, "failure")
        assert text in last["message"]
        assert last["advice"]


def test_check_sends_a_wrong_password_once(person: Person) -> None:
    with FaultProxy(person.server.origin) as proxy:
        found = person.checked(
            "--pool", f"{proxy.origin}/strict", PICAS_USERNAME=person.name, PICAS_PASSWORD="not-the-password"
        )
        assert found["login"]["level"] == "failure"
        assert proxy.count() == 1


def test_check_tells_of_views_that_somebody_has_changed(admin: Person, new: str) -> None:
    assert admin.init(f"{admin.server.origin}/{new}", "--create").returncode == 0
    path = f"/{new}/_design/picas"
    design = admin.server.ask("GET", path)[1]
    design["views"]["tokens"]["map"] = "function (doc) {}"
    assert admin.server.ask("PUT", path, design)[0] == 201
    views = admin.checked()["views"]
    assert (views["level"], views["unusable"]) == ("failure", ["picas"])
    assert "picas views create" in views["advice"]


def test_check_tells_of_a_database_whose_documents_we_may_not_write(
    admin: Person, new: str, person: Person
) -> None:
    admin.server.ask("PUT", f"/{new}")
    admin.server.ask(
        "PUT", f"/{new}/_security", {"members": {"roles": ["picas"]}, "admins": {"roles": ["_admin"]}}
    )
    refuse = (
        "function (n, o, user) { if (user.roles.indexOf('_admin') < 0) throw({forbidden: 'read only'}); }"
    )
    admin.server.ask("PUT", f"/{new}/_design/guard", {"validate_doc_update": refuse})
    found = person.checked(
        "--pool", f"{person.server.origin}/{new}", PICAS_USERNAME=person.name, PICAS_PASSWORD=person.password
    )
    assert (found["rights"]["level"], found["rights"]["write"]) == ("failure", False)
    assert not found["rights"]["design"]
    assert found["ok"] is False


def test_check_tells_of_a_clock_that_is_wrong(person: Person) -> None:
    with FaultProxy(person.server.origin) as proxy:
        late = {"Date": "Sun, 22 Nov 2099 12:00:00 GMT"}
        proxy.fault(Answer(200, {"userCtx": {"name": "x"}}, late), path="/_session")
        proxy.fault(Answer(200, {"doc_count": 0}, late), path="/strict$", count=None)
        found = person.checked(
            "--pool", f"{proxy.origin}/strict", PICAS_USERNAME=person.name, PICAS_PASSWORD=person.password
        )
    assert found["clock"]["level"] == "warning"
    assert found["clock"]["server_ahead"] > 1e8


def test_check_of_a_cluster(cluster: CouchCluster, cluster_database: list[str], tmp_path: Path) -> None:
    nodes = cluster.nodes
    person = Person(tmp_path, nodes[0])
    login = {"PICAS_USERNAME": nodes[0].username, "PICAS_PASSWORD": nodes[0].password}
    pool = nodes[0].origin + "/" + cluster_database[0].rpartition("/")[2]
    found = person.checked("--pool", pool, **login)
    assert (found["copies"]["copies"], found["copies"]["nodes"], found["copies"]["quorum"]) == (3, 3, 2)
    assert found["quorum"]["level"] == "ok"
    single = "/one_" + secrets.token_hex(4)
    assert nodes[0].ask("PUT", f"{single}?n=1")[0] == 201
    found = person.checked("--pool", nodes[0].origin + single, **login)
    nodes[0].ask("DELETE", single)
    assert found["copies"]["level"] == "warning"
    for node in nodes[1:]:
        node.kill()
    found = person.checked("--pool", pool, **login)
    assert (found["quorum"]["level"], len(found["quorum"]["away"])) == ("failure", 2)


def test_check_of_a_file(tmp_path: Path, strict_couchdb: CouchServer) -> None:
    person = Person(tmp_path, strict_couchdb)
    done = person.picas("check")
    assert done.returncode == 1
    assert "there is no file" in done.stdout
    assert not (tmp_path / "picas.db").exists()
    (tmp_path / "t.txt").write_text("echo one\n")
    person.picas("push", "t.txt")
    found = person.checked()
    assert found["ok"] is True
    assert [*found][:-1] == ["sqlite", "file", "disk", "rights", "pool"]
    assert found["pool"]["tokens"] == 1
    (tmp_path / "picas.db").write_text("no database")
    assert person.checked()["pool"]["level"] == "failure"


# --- passwd ------------------------------------------------------------------------------------------


def change(person: Person, *words: str) -> subprocess.CompletedProcess[str]:
    return person.picas("passwd", *words, "--password-stdin", stdin="brand-new\n")


def test_passwd_changes_the_password_on_the_server_and_in_the_file(person: Person) -> None:
    assert person.init(f"{person.server.origin}/strict").returncode == 0
    done = change(person)
    assert done.returncode == 0, done.stderr
    assert "brand-new" not in done.stdout + done.stderr
    assert person.settings["couchdb"]["password"] == "brand-new"
    assert person.logs_in("brand-new")
    assert os.listdir(person.file.parent) == ["config.toml"]
    assert person.checked()["ok"]


def test_passwd_of_an_administrator(admin: Person) -> None:
    assert admin.init(f"{admin.server.origin}/strict").returncode == 0
    assert change(admin).returncode == 0
    assert admin.settings["couchdb"]["password"] == "brand-new"
    assert admin.logs_in("brand-new")
    done = admin.picas("passwd", "--password-stdin", stdin="brand-€\n")
    assert done.returncode == 2
    assert "does not take this password" in done.stderr
    assert admin.settings["couchdb"]["password"] == "brand-new"
    assert admin.logs_in("brand-new")


def test_passwd_of_somebody_else_is_for_administrators(
    admin: Person, person: Person, tmp_path_factory: pytest.TempPathFactory
) -> None:
    person.file = admin.file
    assert admin.init(f"{admin.server.origin}/strict").returncode == 0
    assert change(admin, person.name).returncode == 0
    assert person.logs_in("brand-new")
    assert admin.settings["couchdb"]["password"] == admin.password
    other = Person(tmp_path_factory.mktemp("other"), admin.server)
    other.register("picas")
    assert other.init(f"{other.server.origin}/strict").returncode == 0
    done = change(other, person.name)
    assert done.returncode == 1
    assert f"has no user {person.name}, or does not show it" in done.stderr


def test_passwd_tells_where_the_old_one_still_is(person: Person) -> None:
    done = person.picas(
        *("passwd", "--password-stdin", "--json", "--pool", f"{person.server.origin}/strict"),
        stdin="brand-new\n",
        PICAS_USERNAME=person.name,
        PICAS_PASSWORD=person.password,
    )
    assert json.loads(done.stdout) == {
        "server": person.server.origin,
        "user": person.name,
        "password_in": None,
        "old_in": "the environment",
    }


def test_passwd_where_only_administrators_may(person: Person) -> None:
    with FaultProxy(person.server.origin) as proxy:
        assert person.init(f"{proxy.origin}/strict").returncode == 0
        proxy.fault(Answer(403, {"error": "forbidden"}), path="/_users")
        done = change(person)
    assert done.returncode == 1
    assert f"Ask one to run: picas passwd {person.name}" in done.stderr
    assert os.listdir(person.file.parent) == ["config.toml"]
    assert person.settings["couchdb"]["password"] == person.password


@pytest.mark.parametrize("lost", ["answer", "proof"])
def test_passwd_forgets_neither_password_while_it_is_not_certain_which_holds(
    person: Person, lost: str
) -> None:
    with FaultProxy(person.server.origin) as proxy:
        assert person.init(f"{proxy.origin}/strict").returncode == 0
        if lost == "answer":
            proxy.fault(LoseAnswer(), method="PUT")
        else:
            proxy.fault(Answer(401, {"error": "unauthorized"}), path="/_session", skip=1, count=None)
        done = change(person)
        tries = proxy.count("GET", "/_session")
    assert done.returncode == 1
    assert "it is not certain which password" in done.stderr
    assert person.settings["couchdb"]["password"] == person.password
    staged = person.file.with_name("config.toml.new")
    assert str(staged) in done.stderr
    assert stat.S_IMODE(staged.stat().st_mode) == 0o600
    assert parse(staged, staged.read_text())["couchdb"]["password"] == "brand-new"
    assert person.logs_in("brand-new")
    assert tries <= 5  # two with the old one, three with the new one: not enough to be locked out


def test_passwd_asks_twice(person: Person) -> None:
    assert person.init(f"{person.server.origin}/strict").returncode == 0
    terminal = pexpect.spawn(
        sys.executable,
        ["-m", "picas", "passwd"],
        cwd=person.home,
        env=person.environment,
        encoding="utf-8",
        timeout=30,
    )
    terminal.expect("New password of .*: ")
    terminal.sendline("one")
    terminal.expect("The same again: ")
    terminal.sendline("other")
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert terminal.exitstatus == 2
    assert "differ" in str(terminal.before)
    assert person.logs_in(person.password)


# --- Pilots ------------------------------------------------------------------------------------------


def test_a_pilot_that_is_not_let_in_asks_once(person: Person) -> None:
    with FaultProxy(person.server.origin) as proxy:
        done = person.picas(
            *("run", "--workers", "4", "--wait", "--pool", f"{proxy.origin}/strict"),
            PICAS_USERNAME=person.name,
            PICAS_PASSWORD="not-the-password",
        )
        assert done.returncode == 1
        assert "Check name and password" in done.stderr
        assert proxy.count() == 1


def test_a_pilot_whose_login_ends_stops_at_once_and_loses_nothing(admin: Person, new: str) -> None:
    assert admin.init(f"{admin.server.origin}/{new}", "--create").returncode == 0
    (admin.home / "t.txt").write_text("sleep 0.3; echo ${PICAS_PASSWORD-no password} $PICAS_POOL\n" * 8)
    assert admin.picas("push", "t.txt").returncode == 0
    login = {"PICAS_USERNAME": admin.name, "PICAS_PASSWORD": admin.password}
    gone = Answer(401, {"error": "unauthorized", "reason": "gone"})
    with FaultProxy(admin.server.origin) as proxy:
        first = proxy.fault(gone, "POST", "/_bulk_docs", where=has_a_result)
        later = proxy.fault(gone, where=lambda _: first.hits > 0, count=None)
        done = admin.picas("run", "--workers", "2", "--pool", f"{proxy.origin}/{new}", **login)
        assert done.returncode == 1
        assert "gone" in done.stderr
        assert first.hits == 1
        assert later.hits <= 2  # what was on its way in other threads
        refused = len(proxy.requests)
        proxy.clear()
        assert admin.picas("flush", "--pool", f"{proxy.origin}/{new}", **login).returncode == 0
        assert len(proxy.requests) > refused
    assert json.loads(admin.picas("status", "--json").stdout)["done"] >= 1
    log = admin.picas("logs", "token_0", "--out")
    assert log.stdout == f"no password {proxy.origin}/{new}\n"


def has_a_result(request: Request) -> bool:
    """Whether tokens that are done are being written."""
    return any(doc.get("done", 0) > 0 for doc in json.loads(request.body or b"{}").get("docs", []))
