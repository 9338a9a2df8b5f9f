"""The spool: what is kept comes back as it went, half-written or twice sent does no harm."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from picas.budgets import Budgets
from picas.errors import PoolUnavailable
from picas.finishing import Result
from picas.payload import Payload, Stretch
from picas.spool import journal, records
from picas.spool.spool import Spool
from picas.tokens import Edits, Failure, Outcome, Usage

NONE = Budgets()


@pytest.fixture
def spool(bench):
    return Spool(bench.spool, bench.url)


def claimed(bench, **fields):
    bench.push({"input": "true", **fields}, again=True)
    return bench.pool.claim()


def result(token, exit_code=0, files=(), **fields):
    failure = Failure.APPLICATION if exit_code else None
    logs = (Payload(f"logs_{token.id}.out", "text/plain", (b"log",)),)
    return Result(token, Outcome(exit_code, 1.0, 2.0, failure, **fields), logs, files)


def left_by_a_pilot(spool, *results, budgets=NONE):
    """Its journal, when it is gone."""
    mine = spool.journal()
    mine.keep(results, budgets)
    mine.close()
    return mine.path


def files_in(spool):
    return sorted(path.relative_to(spool.directory).as_posix() for path in spool.directory.rglob("*"))


# --- What is kept comes back ---


def test_a_result_comes_back_as_it_went(bench, spool, tmp_path):
    token = claimed(bench, größe="é")
    part = tmp_path / "part"
    part.write_bytes(b"0123456789" * 20_000)
    files = (
        Payload("small", "image/png", (b"\0\xff\n",)),
        Payload("large", "image/png", (big := os.urandom(3_000_000),)),
        Payload("empty", "text/plain", ()),
        Payload(
            "parts", "text/plain", (Stretch(part, 5, 10), b"--", Stretch(part, 0, 150_000), os.urandom(0))
        ),
    )
    whole = result(
        token, 3, files, message="broken", output={"x": [1]}, usage=Usage(1.0, 2.0, 3), notes=("a",)
    )
    path = left_by_a_pilot(spool, whole, budgets=Budgets(5, retry_on=(75,)))
    part.unlink()
    [[kept]], damaged = records.read(path)
    assert (kept.result.outcome, kept.budgets, damaged) == (whole.outcome, Budgets(5, retry_on=(75,)), 0)
    path = left_by_a_pilot(spool, result(other := claimed(bench)))
    assert spool.flush(bench.pool) == (2, 0)
    token = bench.token(token.id)
    assert (token.history[0]["exit_code"], token.output) == (3, {"x": [1]})  # a try is left: it is todo
    assert bench.attached("small", token.id) == b"\0\xff\n"
    assert bench.attached("large", token.id) == big
    assert bench.attached("empty", token.id) == b""
    assert bench.attached("parts", token.id) == b"5678901234--" + b"0123456789" * 15_000
    assert token.attachments["large"].content_type == "image/png"
    assert bench.out(other.id) == "log"
    assert files_in(spool) == []


def test_what_a_program_made_of_its_token_comes_back_too(bench, spool):
    edits = Edits({"answer": 42}, ("note",), ("old",))
    path = left_by_a_pilot(spool, Result(claimed(bench), Outcome(0, 1.0, 2.0), edits=edits))
    [[kept]], _ = records.read(path)
    assert kept.result.edits == edits


def test_a_large_file_on_the_same_disk_is_linked_and_another_copied(bench, spool, tmp_path, monkeypatch):
    large = tmp_path / "large"
    large.write_bytes(os.urandom(200_000))
    files = (Payload("large", "text/plain", (Stretch(large, 1000, 100_000),)),)
    mine = spool.journal()
    mine.keep([result(claimed(bench), files=files)], NONE)
    assert large.stat().st_nlink == 2
    monkeypatch.setattr(
        os, "link", refused := lambda *names: (_ for _ in ()).throw(OSError(18, "cross-device"))
    )
    assert refused
    mine.keep([result(claimed(bench), files=files)], NONE)
    assert sorted(path.stat().st_size for path in spool.directory.glob("*.files/*")) == [100_000, 200_000]
    mine.close()
    assert spool.flush(bench.pool) == (2, 0)
    for n in range(2):
        assert bench.attached("large", f"token_{n}") == large.read_bytes()[1000:101_000]
    assert files_in(spool) == []


def test_much_is_kept_in_several_records_with_one_sync(bench, spool, monkeypatch):
    synced = []
    monkeypatch.setattr(journal, "_sync_data", synced.append)
    monkeypatch.setattr(journal, "RECORD_BYTES", 50_000)
    files = (Payload("f", "text/plain", (b"x" * 20_000,)),)
    path = left_by_a_pilot(spool, *[result(claimed(bench), files=files) for _ in range(10)])
    found, damaged = records.read(path)
    assert ([len(record) for record in found], damaged, len(synced)) == ([3, 3, 3, 1], 0, 1)
    assert spool.waiting() == 10
    assert spool.flush(bench.pool) == (10, 0)


def test_only_the_owner_can_read_it(bench, spool):
    left_by_a_pilot(spool, result(claimed(bench), files=(Payload("f", "text/plain", (b"x" * 100_000,)),)))
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in spool.directory.rglob("*")}
    assert len(modes) == 3
    assert set(modes.values()) == {0o700, 0o600}
    assert stat.S_IMODE(spool.directory.stat().st_mode) == 0o700
    assert stat.S_IMODE(bench.spool.stat().st_mode) == 0o700


def test_each_pool_has_a_spool_of_its_own(bench, spool, tmp_path):
    left_by_a_pilot(spool, result(claimed(bench)))
    assert Spool(bench.spool, bench.url + "x").waiting() == 0
    assert Spool(bench.spool, f"sqlite:///{tmp_path}/../odd ü.db").directory.parent == bench.spool


# --- A journal at work ---


def test_a_journal_is_empty_when_all_is_confirmed_and_gone_when_it_is_closed(bench, spool):
    kept = [result(claimed(bench), files=(Payload("f", "text/plain", (b"x" * 100_000,)),)) for _ in range(3)]
    mine = spool.journal()
    mine.keep(kept[:2], NONE)
    mine.keep(kept[2:], NONE)
    mine.drop(kept[:1])
    assert [mine.holds(each) for each in kept] == [False, True, True]
    assert spool.waiting() == 3  # one too many does no harm
    mine.drop(kept[1:])
    assert (spool.waiting(), mine.path.stat().st_size, len(files_in(spool))) == (0, 0, 1)
    mine.keep(kept, NONE)
    assert spool.waiting() == 3
    mine.drop(kept)
    mine.close()
    assert files_in(spool) == []


def test_keeping_twice_writes_once(bench, spool):
    mine = spool.journal()
    kept = result(claimed(bench))
    mine.keep([kept], NONE)
    size = mine.path.stat().st_size
    mine.keep([kept], NONE)
    assert mine.path.stat().st_size == size


def test_a_journal_that_somebody_removed_is_written_anew(bench, spool):
    mine = spool.journal()
    kept = result(claimed(bench))
    mine.keep([kept], NONE)
    shutil.rmtree(bench.spool)
    mine.keep([kept], NONE)
    assert spool.waiting() == 1


def test_what_cannot_be_written_down_harms_nothing_else(bench, spool, tmp_path):
    odd = [
        result(claimed(bench), output={"x": object()}),
        result(claimed(bench), files=(Payload("gone", "text/plain", (Stretch(tmp_path / "gone", 0, 5),)),)),
    ]
    good = result(claimed(bench))
    mine = spool.journal()
    mine.keep([*odd, good], NONE)
    assert [mine.holds(each) for each in (*odd, good)] == [False, False, True]
    mine.close()
    assert spool.flush(bench.pool) == (1, 0)


def test_a_full_disk_takes_nothing_back_of_what_was_kept(bench, spool, monkeypatch):
    mine = spool.journal()
    first, second = result(claimed(bench)), result(claimed(bench))
    large = result(claimed(bench), files=(Payload("f", "text/plain", (b"x" * 100_000,)),))
    mine.keep([first], NONE)
    before = files_in(spool)

    def full(handle, data, offset, pwrite=os.pwrite):
        if len(data) < 100:
            raise OSError(28, "No space left on device")
        return pwrite(handle, data[:50], offset)

    monkeypatch.setattr(os, "pwrite", full)
    for more in ([second], [large], [second, large]):
        with pytest.raises(OSError, match="No space"):
            mine.keep(more, NONE)
    monkeypatch.undo()
    assert [name for name in files_in(spool) if not name.endswith(".files")] == before
    mine.keep([second], NONE)
    mine.close()
    assert spool.flush(bench.pool) == (2, 0)


def test_what_the_pool_does_not_take_is_set_aside_and_the_journal_goes_on(bench, spool):
    mine = spool.journal()
    good, bad = result(claimed(bench)), result(claimed(bench))
    mine.keep([good, bad], NONE)
    mine.drop([good])
    mine.set_aside([bad], NONE)
    assert (mine.path.stat().st_size, spool.waiting()) == (0, 1)
    mine.close()
    assert len(files_in(spool)) == 1
    assert spool.flush(bench.pool) == (1, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="which file a handle is of is asked of Linux")
def test_what_is_kept_is_written_through_to_the_disk(bench, spool, tmp_path, monkeypatch):
    """No write to a file is without a later sync of it, no new name without a later sync of its directory."""
    unsynced = set()

    def recorded(name, note, module=os):
        function = getattr(module, name)

        def noting(*args, **options):
            answer = function(*args, **options)
            note(answer, *args)
            return answer

        monkeypatch.setattr(module, name, noting)

    def path_of(handle):
        return Path(f"/proc/self/fd/{handle}").readlink()

    def opened(handle, path, flags, *rest):
        if flags & os.O_CREAT:
            unsynced.add(Path(path).parent)

    recorded("open", opened)
    recorded("pwrite", lambda count, handle, *rest: unsynced.add(path_of(handle)))
    recorded("link", lambda _, source, target: unsynced.update((target, target.parent)))
    recorded("mkdir", lambda _, path, *rest: unsynced.add(Path(path).parent))
    recorded("fsync", lambda _, handle: unsynced.discard(path_of(handle)))
    recorded("_sync_data", lambda _, handle: unsynced.discard(path_of(handle)), journal)
    large = tmp_path / "large"
    large.write_bytes(b"x" * 200_000)
    files = (
        Payload("linked", "text/plain", (Stretch(large, 0, 200_000),)),
        Payload("copied", "text/plain", (b"y" * 100_000,)),
    )
    mine = spool.journal()
    kept = [result(claimed(bench), files=files) for _ in range(3)]
    seen = 0
    for each in kept:
        mine.keep([each], NONE)
        assert unsynced == set()
        seen += len(files_in(spool))
    assert seen == 4 + 6 + 8
    monkeypatch.setattr(os, "fsync", lambda handle: None)  # and the test would notice if they were missing
    mine.keep([result(claimed(bench), files=files)], NONE)
    assert {path.name for path in unsynced} == {"6", "7", mine._files.name}


# --- Whose it is ---


def test_a_living_pilots_journal_is_left_to_it(bench, spool):
    mine = spool.journal()
    mine.keep([result(claimed(bench))], NONE)
    assert spool.flush(bench.pool) == (0, 0)
    assert spool.waiting() == 1
    mine.close()
    assert spool.flush(bench.pool) == (1, 0)


def test_a_journal_that_another_process_sends_is_left_to_that(bench, spool):
    path = left_by_a_pilot(spool, result(claimed(bench)))
    with journal.taken(path) as ours:
        assert ours
        assert spool.flush(bench.pool) == (0, 0)
    with journal.taken(path.with_name("gone.journal")) as ours:
        assert not ours
    assert spool.flush(bench.pool) == (1, 0)


@pytest.mark.parametrize("dies", ["kill", "exit"])
def test_a_forked_child_does_not_hold_the_journal_of_a_pilot_that_is_gone(bench, spool, dies, eventually):
    bench.push("true")
    program = f"""
import os, signal, sys, time
from pathlib import Path
from picas.budgets import Budgets
from picas.finishing import Result
from picas.pool import open_pool
from picas.spool.spool import Spool
from picas.tokens import Outcome
pool = open_pool(sys.argv[1])
mine = Spool(Path(sys.argv[2]), pool.url).journal()
mine.keep([Result(pool.claim(), Outcome(0, 1.0, 2.0))], Budgets())
child = os.fork()
if child == 0:
    os.close(1)
    time.sleep(600)
print(child, flush=True)
os.kill(os.getpid(), signal.SIGKILL) if {dies == "kill"} else os._exit(0)
"""
    ended = subprocess.run(
        [sys.executable, "-c", program, bench.url, str(bench.spool)],
        stdout=subprocess.PIPE,
        timeout=60,
        check=False,
    )
    child = int(ended.stdout)
    try:
        os.kill(child, 0)
        eventually(lambda: spool.flush(bench.pool) == (1, 0))
    finally:
        os.kill(child, 9)


def test_two_that_send_at_once_lose_and_double_nothing(bench, spool):
    results = [result(claimed(bench)) for _ in range(40)]
    for each in results:
        left_by_a_pilot(spool, each)
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(spool.flush(bench.pool))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sum(sent for sent, _ in answers) == 40
    assert set(bench.states().values()) == {"done"}
    assert all(token.history == [] for token in bench.pool.tokens())
    assert files_in(spool) == []


# --- Sent twice, half, damaged, in vain ---


def test_sending_twice_does_no_harm(bench, spool):
    kept = result(claimed(bench))
    left_by_a_pilot(spool, kept)
    bench.pool.finish_many([kept])
    assert spool.flush(bench.pool) == (1, 0)
    assert spool.flush(bench.pool) == (0, 0)
    assert (bench.token().history, bench.out()) == ([], "log")


def test_whatever_is_cut_off_the_end_only_whole_records_count(bench, spool):
    mine = spool.journal()
    ends = [0]
    for _ in range(3):
        mine.keep([result(claimed(bench))], NONE)
        ends.append(mine.path.stat().st_size)
    mine.close()
    whole = mine.path.read_bytes()
    for length in [*range(0, len(whole), 37), *ends, *(end - 1 for end in ends[1:])]:
        mine.path.write_bytes(whole[:length])
        found, damaged = records.read(mine.path)
        assert (len(found), damaged) == (sum(end <= length for end in ends[1:]), 0)
    mine.path.write_bytes(whole[:-1])
    assert spool.flush(bench.pool) == (2, 0)
    assert files_in(spool) == []
    assert sorted(bench.states().values()) == ["done", "done", "locked"]


@pytest.mark.parametrize("place", ["mark", "length", "text", "blob"])
def test_a_damaged_record_is_told_and_left_and_the_others_are_sent(bench, spool, place):
    mine = spool.journal()
    ends = []
    for _ in range(3):
        mine.keep([result(claimed(bench))], NONE)
        ends.append(mine.path.stat().st_size)
    mine.close()
    data = bytearray(mine.path.read_bytes())
    at = {"mark": ends[0], "length": ends[0] + 20, "text": ends[0] + 200, "blob": ends[1] - 1}[place]
    data[at] ^= 1
    mine.path.write_bytes(data)
    sent = (
        1 if place in ("mark", "length") else 2
    )  # where a head is damaged nobody knows where the next begins
    assert spool.flush(bench.pool) == (sent, 1)
    assert spool.waiting() == sent + 1
    assert mine.path.exists()


@pytest.mark.parametrize(
    "change",
    [
        ("budgets", 5),
        ("budgets", {"pause": [10**400, 10**400]}),
        ("outcome", {"new": 1}),
        ("outcome", {"exit_code": 1, "started": "then", "ended": 2.0, "failure": "application"}),
        ("outcome", {"exit_code": 1, "started": 1.0, "ended": 10**400, "failure": "application"}),
        ("token", {"_id": 5}),
        ("token", {"_id": "token_0", "_rev": "²-1"}),
        ("files", None),
        ("files", [{"name": 0.5, "content_type": "text/plain", "parts": [1]}]),
        ("files", [{"name": "a", "content_type": "text/plain", "parts": [10**30]}]),
    ],
)
def test_what_another_version_may_have_written_is_left(bench, spool, change, monkeypatch):
    text = journal.text_of
    monkeypatch.setattr(
        journal, "text_of", lambda *args: json.dumps({**json.loads(text(*args)), change[0]: change[1]})
    )
    path = left_by_a_pilot(spool, result(claimed(bench)))
    assert spool.flush(bench.pool) == (0, 1)
    assert path.exists()


def test_what_the_pool_does_not_take_stays_and_the_others_are_sent(bench, spool):
    bad = Payload("\udcff", "text/plain", (b"x",))
    path = left_by_a_pilot(spool, *[result(claimed(bench), files=(bad,) * (n == 2)) for n in range(4)])
    assert spool.flush(bench.pool) == (3, 1)
    assert path.exists()


def test_a_pool_that_does_not_answer_leaves_all_that_is_left(bench, spool, monkeypatch):
    for _ in range(3):
        left_by_a_pilot(spool, result(claimed(bench)), result(claimed(bench)))
    finish = bench.pool.finish_many
    answers = iter([finish])

    def once(results, **options):
        return next(answers, unavailable)(results, **options)

    def unavailable(results, **options):
        raise PoolUnavailable("the pool is away")

    monkeypatch.setattr(bench.pool, "finish_many", once)
    assert spool.flush(bench.pool) == (2, 4)
    monkeypatch.undo()
    assert spool.flush(bench.pool) == (4, 0)


# --- What crashes leave behind ---


def test_old_leftovers_are_cleared_and_new_ones_left_to_their_writer(bench, spool):
    spool.directory.mkdir(parents=True)
    places = [spool.directory / name for name in (".part-old", "old.files", ".part-new", "new.files")]
    for place in places:
        place.mkdir()
    for place in places[:2]:
        os.utime(place, (time.time() - 100_000,) * 2)
    spool.flush(bench.pool)
    assert [place.exists() for place in places] == [False, False, True, True]


def test_entries_of_a_former_version_are_sent(bench, spool):
    token = claimed(bench)
    entry = spool.directory / token.claim_id
    entry.mkdir(parents=True)
    (entry / "0").write_text("log")
    outcome = {"exit_code": 3, "started": 1.0, "ended": 2.0, "failure": "application", "message": "broken",
               "exception": "", "usage": None, "output": None, "kept": ""}  # fmt: skip
    files = [{"file": "0", "name": f"logs_{token.id}.out", "content_type": "text/plain"}]
    document = {"token": token.document(), "outcome": outcome, "logs": 1, "files": files, "max_scrub": 1}
    (entry / "result.json").write_text(json.dumps(document))
    bad = spool.directory / "bad"
    bad.mkdir()
    (bad / "result.json").write_text("{")
    assert spool.waiting() == 2
    assert spool.flush(bench.pool) == (1, 1)
    assert (entry.exists(), bad.exists()) == (False, True)
    token = bench.token()
    assert (token.scrub_count, bench.out(), bench.message()) == (1, "log", "broken")


KEEPER = """
import sys
from picas.budgets import Budgets
from picas.payload import Payload
from picas.finishing import Result
from picas.pool import open_pool
from picas.spool.spool import Spool
from picas.tokens import Outcome
from pathlib import Path

pool = open_pool(sys.argv[1])
journal = Spool(Path(sys.argv[2]), pool.url).journal()
while True:
    group = []
    for token in pool.claim_many(3):
        logs = tuple(Payload(f"logs_{token.id}.{end}", "text/plain", (token.id.encode() * 15_000,)) for end in ("out", "err"))
        group.append(Result(token, Outcome(0, 1.0, 2.0), logs))
    journal.keep(group, Budgets())
    print(*[result.token.id for result in group], flush=True)
"""


def test_a_pilot_that_is_killed_outright_has_kept_what_it_was_told_is_kept(bench, spool):
    bench.push(*["true"] * 400)
    told = []
    for lines in (3, 7, 11):
        with subprocess.Popen(
            [sys.executable, "-c", KEEPER, bench.url, str(bench.spool)], stdout=subprocess.PIPE, text=True
        ) as process:
            told += [process.stdout.readline() for _ in range(lines)]
            process.kill()
            told += [line for line in process.stdout if line.endswith("\n")]
    number = spool.waiting()
    assert spool.flush(bench.pool) == (number, 0)
    done = {token.id for token in bench.pool.tokens("done")}
    assert len(done) == number
    assert set(" ".join(told).split()) <= done
    for token_id in done:
        assert bench.out(token_id) == bench.err(token_id) == token_id * 15_000
    assert files_in(spool) == []
