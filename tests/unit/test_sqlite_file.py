"""The file of an embedded pool: where it may be, what it may be, and what goes wrong with files."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import sqlite3
import subprocess
import sys
import textwrap
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Callable

import pytest

from picas.errors import PicasError, PoolRefused, PoolUnavailable
from picas.payload import Payload
from picas.stores import scripts
from picas.stores.base import Change
from picas.stores.sqlite import attached
from picas.stores.sqlite import file as sqlite_file
from picas.stores.sqlite.file import APPLICATION_ID, SCHEMA, migrations, network_file_system
from picas.stores.sqlite.store import SqliteStore
from picas.tokens import Claimer, State, Token, fresh_body
from picas.transitions import claim

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = os.geteuid() == 0 if hasattr(os, "geteuid") else False


def add(store: SqliteStore, *ids: str) -> list[Token]:
    return [token for token in store.insert([Token(i, fresh_body({"input": i})) for i in ids]) if token]


def take(token: Token) -> Token:
    return claim(token, Claimer("pilot", "node"), 1_700_000_000.0)


# --- Where it may be ---------------------------------------------------------------------------------

MOUNTS = """\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard
23 22 0:21 / /proc rw,nosuid shared:2 - proc proc rw
24 22 0:50 / /home rw,relatime shared:3 - nfs4 server:/export/home rw,vers=4.2,addr=10.0.0.1
25 24 8:1 / /home/scratch rw - xfs /dev/sda1 rw
26 22 0:51 / /lustre rw - lustre 10.0.0.2@o2ib:/fs rw,flock
27 22 0:52 / /mnt/ssh rw - fuse.sshfs me@host: rw,user_id=0
28 22 0:53 / /mnt/with\\040blank\\011and\\134slash rw - cifs //server/share rw
29 22 0:54 / /mnt/größe rw - nfs server:/x rw
30 22 0:55 / /gpfs rw master:7 propagate_from:2 - gpfs gpfs0 rw
31 22 0:56 / /ceph rw - fuse.ceph-fuse ceph-fuse rw
32 22 0:57 / /under rw - nfs server:/y rw
33 32 0:58 / /under rw - tmpfs tmpfs rw
34 22 0:59 / /over rw - tmpfs tmpfs rw
35 34 0:60 / /over rw - beegfs beegfs_nodev rw
36 22 0:61 / /local rw - fuse.fuse-overlayfs fuse-overlayfs rw
37 22 0:62 / /ntfs rw - fuseblk /dev/sdb1 rw
38 22 0:63 / /auto rw - autofs systemd-1 rw
39 38 0:64 / /auto/project rw - nfs4 server:/project rw
a line that is none
40 22 0:65
"""

CONTAINER = """\
500 400 0:100 / / rw,relatime - overlay overlay rw,lowerdir=/var/lib/l1:/var/lib/l2,upperdir=/var/lib/u,workdir=/var/lib/w
501 500 0:101 / /data rw,relatime - nfs server:/export rw
502 500 254:0 /docker/volumes/v /volume rw - ext4 /dev/vda rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/picas.db", None),
        ("/srv/picas.db", None),
        ("/home/me/picas.db", "nfs4"),
        ("/home", "nfs4"),
        ("/homes/me/picas.db", None),
        ("/home/scratch/picas.db", None),
        ("/home/scratch2/picas.db", "nfs4"),
        ("/lustre/a/b/c/picas.db", "lustre"),
        ("/mnt/ssh/picas.db", "fuse.sshfs"),
        ("/mnt/with blank\tand\\slash/picas.db", "cifs"),
        ("/mnt/größe/picas.db", "nfs"),
        ("/gpfs/picas.db", "gpfs"),
        ("/ceph/picas.db", "fuse.ceph-fuse"),
        ("/under/picas.db", None),
        ("/over/picas.db", "beegfs"),
        ("/local/picas.db", None),
        ("/ntfs/picas.db", None),
        ("/auto/picas.db", None),
        ("/auto/project/picas.db", "nfs4"),
        ("/lustre/../srv/picas.db", None),
    ],
)
def test_a_network_file_system_is_known_by_its_mount(path: str, kind: str | None) -> None:
    assert network_file_system(Path(path), MOUNTS) == kind


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/picas.db", None), ("/data/picas.db", "nfs"), ("/volume/picas.db", None)],
)
def test_in_a_container_the_mount_below_the_overlay_counts(path: str, kind: str | None) -> None:
    assert network_file_system(Path(path), CONTAINER) == kind


def test_a_link_to_a_network_file_system_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    mounts = f"22 1 0:1 / / rw - ext4 /dev/vda rw\n23 22 0:2 / {tmp_path.resolve()}/real rw - nfs s:/x rw\n"
    assert network_file_system(tmp_path / "link" / "picas.db", mounts) == "nfs"


def test_nothing_known_of_mounts_refuses_nothing() -> None:
    assert network_file_system(Path("/x"), "") is None


def test_a_pool_on_a_network_file_system_is_refused_with_advice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_file, "network_file_system", lambda path: "lustre")
    with pytest.raises(PoolRefused, match="lustre") as caught:
        SqliteStore(tmp_path / "picas.db")
    assert "local disk" in caught.value.advice
    assert "CouchDB" in caught.value.advice
    assert list(tmp_path.iterdir()) == []


def test_a_missing_directory_is_refused_with_advice(tmp_path: Path) -> None:
    with pytest.raises(PoolRefused, match="no directory") as caught:
        SqliteStore(tmp_path / "not" / "there" / "picas.db")
    assert f"mkdir -p {tmp_path}/not/there" in caught.value.advice
    assert list(tmp_path.iterdir()) == []


def test_a_directory_is_no_pool(tmp_path: Path) -> None:
    (tmp_path / "picas.db").mkdir()
    with pytest.raises(PoolRefused, match="cannot be opened"):
        SqliteStore(tmp_path / "picas.db")


# --- What it may be ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        b"cores=4 echo one\ncores=8 echo two\n" * 100,
        b"x\n",
        b"\x89PNG\r\n" + bytes(2_000),
        b"SQLite format 3\0" + b"\xff" * 4_000,
    ],
)
def test_another_file_is_refused_and_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "tokens.txt"
    path.write_bytes(content)
    with pytest.raises(PoolRefused, match=r"is not a PiCaS pool|is damaged"):
        SqliteStore(path)
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


def test_another_sqlite_database_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "firefox.db"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE token (id)")
    db.close()
    before = path.read_bytes()
    with pytest.raises(PoolRefused, match="not a PiCaS pool") as caught:
        SqliteStore(path)
    assert "nothing was changed" in caught.value.advice
    assert path.read_bytes() == before


def test_a_newer_pool_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "picas.db"
    SqliteStore(path).close()
    newer = len(migrations()) + 1
    db = sqlite3.connect(path)
    db.execute(f"PRAGMA user_version = {newer}")
    db.close()
    with pytest.raises(PoolRefused, match=f"newer PiCaS .format {newer}") as caught:
        SqliteStore(path)
    assert "pip install --upgrade picas" in caught.value.advice
    db = sqlite3.connect(path)
    assert db.execute("PRAGMA user_version").fetchone() == (newer,)
    db.close()


def test_every_script_of_the_schema_is_run_in_the_order_of_its_number() -> None:
    folder = Path(scripts.__file__).parent / "sqlite" / "schema"
    assert sorted(path.stem for path in folder.iterdir()) == list(SCHEMA)


def test_an_older_pool_is_brought_up_to_date_with_its_tokens(tmp_path: Path) -> None:
    path = tmp_path / "picas.db"
    body = fresh_body({"input": "from long ago", "größe": 1})
    db = sqlite3.connect(path)
    db.executescript(migrations()[0])
    db.execute(
        "INSERT INTO token (id, rev, state, priority, doc) VALUES ('old', 3, 'todo', 0, ?)",
        (json.dumps(body),),
    )
    db.commit()
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    db.execute("PRAGMA user_version = 1")
    db.close()
    assert len(migrations()) > 1

    store = SqliteStore(path)

    [token] = store.claim(take, 5, None, "priority")
    assert (token.id, token["größe"]) == ("old", 1)
    written = store.replace([Change(token, (Payload("log", "text/plain", (b"x",)),))])[0]
    assert written is not None
    assert b"".join(store.read_attachment("old", "log")) == b"x"
    store.close()
    db = sqlite3.connect(path)
    assert db.execute("PRAGMA user_version").fetchone() == (len(migrations()),)
    db.close()


def test_a_migration_that_fails_leaves_the_older_pool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "picas.db"
    store = SqliteStore(path)
    add(store, "a")
    store.close()
    steps = [*migrations(), "CREATE TABLE extra (x);\nCREATE TABLE token (a);\n"]
    with monkeypatch.context() as patch:
        patch.setattr(sqlite_file, "migrations", lambda: steps)
        with pytest.raises(PicasError):
            SqliteStore(path)
    store = SqliteStore(path)
    assert store.counts()[State.TODO] == 1
    store.close()
    db = sqlite3.connect(path)
    assert db.execute("SELECT 1 FROM sqlite_master WHERE name = 'extra'").fetchone() is None
    db.close()


def test_an_empty_file_becomes_a_pool(tmp_path: Path) -> None:
    path = tmp_path / "picas.db"
    path.touch()
    store = SqliteStore(path)
    assert add(store, "a")
    store.close()


def test_a_relative_path_goes_on_meaning_the_same_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from picas.stores import open_store

    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    store = open_store("sqlite:///picas.db")
    store.insert([Token("a", fresh_body({}))])
    store.close()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert store.counts()[State.TODO] == 1
    store.close()
    again = open_store(store.url)
    assert again.counts()[State.TODO] == 1
    again.close()
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_processes_that_make_a_pool_at_the_same_moment_all_get_it(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    for round_ in range(10):
        barrier = context.Barrier(6)
        answers = context.Queue()
        path = tmp_path / f"{round_}.db"
        children = [context.Process(target=_make, args=(path, barrier, answers)) for _ in range(6)]
        for child in children:
            child.start()
        assert [answers.get(timeout=60) for _ in children] == ["made"] * 6
        for child in children:
            child.join()


def _make(path: Path, barrier: Any, answers: Any) -> None:
    barrier.wait(30)
    try:
        store = SqliteStore(path)
        store.counts()
        store.close()
    except Exception as error:  # noqa: BLE001 - the parent shows whatever it is
        answers.put(repr(error))
    else:
        answers.put("made")


# --- What goes wrong with files ----------------------------------------------------------------------


def test_a_pool_kept_busy_is_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_file, "BUSY_SECONDS", 0.1)
    store = SqliteStore(tmp_path / "picas.db")
    [token] = add(store, "a")
    other = sqlite3.connect(tmp_path / "picas.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(PoolUnavailable, match="busy"):
        store.replace([Change(token)])
    assert store.counts()[State.TODO] == 1
    other.execute("ROLLBACK")
    other.close()
    assert store.replace([Change(token)])[0] is not None
    store.close()


@pytest.mark.parametrize("harm", ["garbage", "cut"])
def test_a_damaged_pool_is_refused_when_it_shows(tmp_path: Path, harm: str) -> None:
    path = tmp_path / "picas.db"
    store = SqliteStore(path)
    add(store, *(f"token_{n}" for n in range(2_000)))
    store.close()
    size = path.stat().st_size
    with path.open("r+b") as file:
        if harm == "cut":
            file.truncate(size // 2)
        else:
            file.seek(8_192)
            file.write(b"\xa5" * (size - 8_192))
    with pytest.raises(PoolRefused, match="is damaged") as caught, closing(SqliteStore(path)) as store:
        list(store.scan())
    assert ".recover" in caught.value.advice


def as_nobody(work: Callable[[], Any]) -> Any:
    """What the function returns in a child process without root's rights."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if ROOT:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            try:
                answer = work()
            except PicasError as error:
                answer = [type(error).__name__, error.message]
            os.write(writing, json.dumps(answer).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return json.loads(said)


@pytest.fixture
def shared(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory that nobody can reach, with the schema read beforehand: the checkout they may not reach."""
    import tempfile

    steps = migrations()
    monkeypatch.setattr(sqlite_file, "migrations", lambda: steps)
    place = Path(tempfile.mkdtemp())  # pytest's own directories are closed to others
    place.chmod(0o755)
    yield place
    place.chmod(0o755)
    shutil.rmtree(place)


def _look(path: Path) -> Any:
    """What can be done with a pool that cannot be written: all but writing."""
    store = SqliteStore(path)
    seen = [token.id for token in store.scan()]
    log = b"".join(store.read_attachment("a", "log")).decode()
    refused = []
    for write in (
        lambda: add(store, "new"),
        lambda: store.claim(take, 1, None, "oldest"),
        lambda: store.reserve_numbers("token_", 1),
        lambda: store.delete(list(store.scan())),
    ):
        try:
            write()
        except PoolRefused as error:
            refused.append("cannot be written" in error.message)
    return [seen, log, store.counts()[State.TODO], store.progress(60).finished, refused]


LOOKED = [["a", "b"], "x", 2, 0, [True] * 4]


def _fill(path: Path) -> SqliteStore:
    store = SqliteStore(path)
    first, _ = add(store, "a", "b")
    store.replace([Change(first, (Payload("log", "text/plain", (b"x",)),))])
    return store


def test_a_read_only_pool_can_be_looked_at_but_not_written(shared: Path) -> None:
    path = shared / "picas.db"
    _fill(path).close()
    path.chmod(0o444)
    shared.chmod(0o555)
    assert as_nobody(lambda: _look(path)) == LOOKED
    assert sorted(shared.iterdir()) == [path]


def test_a_pool_of_somebody_else_can_be_looked_at_while_they_use_it(shared: Path) -> None:
    if not ROOT:
        pytest.skip("needs a second user, which only root can become")
    path = shared / "picas.db"
    store = _fill(path)
    assert as_nobody(lambda: _look(path)) == LOOKED
    add(store, "c")
    store.close()


def test_a_directory_that_cannot_be_written_has_no_new_pool(shared: Path) -> None:
    shared.chmod(0o555)
    kind, message = as_nobody(lambda: SqliteStore(shared / "picas.db").url)
    assert kind == "PoolRefused"
    assert "cannot be opened" in message


def test_a_pool_in_a_directory_that_cannot_be_written_is_refused(shared: Path) -> None:
    path = shared / "picas.db"
    _fill(path).close()
    path.chmod(0o666)
    shared.chmod(0o555)
    kind, message = as_nobody(lambda: _look(path))
    assert kind == "PoolRefused"
    assert "cannot be written" in message


def in_mounts_of_its_own(mount: str, script: str, *args: str) -> str:
    """What a Python script prints after a shell command has mounted something that only it sees."""
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("unshare(1) is not installed")
    namespace = [unshare, "-m"] if ROOT else [unshare, "-rm"]
    if subprocess.run([*namespace, "sh", "-c", mount, *args], capture_output=True, check=False).returncode:
        pytest.skip("this machine lets us mount nothing")
    command = f'{mount} && exec "$PYTHON" - "$@"'
    done = subprocess.run(
        [*namespace, "sh", "-c", command, *args],
        input=textwrap.dedent(script),
        env={**os.environ, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_full_disk_loses_nothing_and_the_pool_goes_on_when_there_is_room(tmp_path: Path) -> None:
    said = in_mounts_of_its_own(
        'mount -t tmpfs -o size=2m tmpfs "$0"',
        """
        import pathlib, sys
        from picas.errors import PoolUnavailable
        from picas.payload import Payload
        from picas.stores.base import Change
        from picas.stores.sqlite.store import SqliteStore
        from picas.tokens import Token, fresh_body
        place = pathlib.Path(sys.argv[1])
        (place / "ballast").write_bytes(bytes(500_000))
        store = SqliteStore(place / "picas.db")
        kept = {}
        try:
            for n in range(10_000):
                [token] = store.insert([Token(f"t{n}", fresh_body({"n": n}))])
                kept[token.id] = 0
                size = 100_000 if n % 10 == 0 else 1_000
                log = Payload("log", "text/plain", (bytes([n % 256]) * size,))
                assert store.replace([Change(token, (log,))])[0]
                kept[token.id] = size
        except PoolUnavailable as error:
            print("disk is full" in error.message or "cannot be read or written" in error.message, error.message)
        def check(kept):
            for n, token in enumerate(store.fetch(list(kept))):
                assert token["n"] == n
                if kept[token.id]:
                    assert b"".join(store.read_attachment(token.id, "log")) == bytes([n % 256]) * kept[token.id]
        check(kept)
        (place / "ballast").unlink()
        [token] = store.insert([Token("afterwards", fresh_body({"n": len(kept)}))])
        store.close()
        check({**kept, "afterwards": 0})
        print(len(kept) > 10)
        """,
        str(tmp_path),
        str(tmp_path),
    )
    first, last = said.split("\n")
    assert first.startswith("True"), first
    assert last == "True"


def test_a_read_only_file_system_can_be_looked_at(tmp_path: Path) -> None:
    store = _fill(tmp_path / "picas.db")
    store.close()
    said = in_mounts_of_its_own(
        'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0"',
        """
        import pathlib, sys
        from picas.errors import PoolRefused
        from picas.stores.sqlite.store import SqliteStore
        place = pathlib.Path(sys.argv[1])
        store = SqliteStore(place / "picas.db")
        print([token.id for token in store.scan()])
        try:
            store.reserve_numbers("x", 1)
        except PoolRefused as error:
            print("cannot be written" in error.message)
        try:
            SqliteStore(place / "new.db")
        except PoolRefused as error:
            print("cannot be opened" in error.message)
        """,
        str(tmp_path),
        str(tmp_path),
    )
    assert said.split("\n") == ["['a', 'b']", "True", "True"]


# --- What is left behind -----------------------------------------------------------------------------


def test_no_pieces_are_left_of_attachments_that_are_gone(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "picas.db")
    [token] = add(store, "a")

    def write(token: Token, rename: dict[str, str], *sizes: int) -> Token:
        payloads = tuple(Payload(f"log {n}", "text/plain", (bytes(size),)) for n, size in enumerate(sizes))
        return store.replace([Change(token, payloads, rename)])[0] or token

    stale = token
    for sizes in ((100, 300_000), (300_000, 100), (0, 0), (3_000_000, 3_000_000)):
        token = write(token, {}, *sizes)
    assert write(stale, {}, 200_000) is stale
    token = write(token, {"log 0": "log 1"})
    assert store.delete([token]) == [True]
    store.close()
    db = sqlite3.connect(tmp_path / "picas.db")
    assert db.execute("SELECT count(*) FROM attachment").fetchone() == (0,)
    assert db.execute("SELECT count(*) FROM piece").fetchone() == (0,)
    db.close()


def test_a_large_attachment_whose_writer_died_is_removed_after_a_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = SqliteStore(tmp_path / "picas.db")
    [token] = add(store, "a")
    gone = Payload("gone", "text/plain", (bytes(300_000), bytes(300_000)))
    with monkeypatch.context() as patch:
        patch.setattr(attached.Attachments, "unstage", _die)
        with pytest.raises(KeyboardInterrupt):
            store.replace([Change(token, (gone,))])

    def leftovers() -> int:
        db = sqlite3.connect(tmp_path / "picas.db")
        count = db.execute("SELECT count(*) FROM attachment WHERE token IS NULL").fetchone()[0]
        db.close()
        return int(count)

    assert leftovers() == 1
    assert not (store.fetch(["a"])[0] or token).attachments
    big = Payload("big", "text/plain", (bytes(100_000),))
    token = store.replace([Change(token, (big,))])[0] or token
    assert leftovers() == 1, "it may still be being written"
    tomorrow = store.now() + 90_000
    monkeypatch.setattr(attached, "time", SimpleNamespace(time=lambda: tomorrow))
    store.replace([Change(token, (big,))])
    assert leftovers() == 0
    store.close()


def _die(*args: object) -> None:
    raise KeyboardInterrupt
