"""Files, conditions and settings that nobody expects: they are read, or refused with an error of ours.

More examples: ``PICAS_FAULTS``, see `tests.faults.examples`.
"""

from __future__ import annotations

import ast
import json
import sqlite3
from contextlib import contextmanager, suppress
from itertools import islice
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.faults.examples import directory, examples
from tests.faults.strange import ANY, SCALARS, bodies, sometimes
from tests.unit.conftest import javascript

from picas.budgets import Budgets
from picas.errors import ConfigError, InvalidInput, SelectionError, TokenFileError
from picas.finishing import Result
from picas.payload import Payload
from picas.pool import Pool, open_pool
from picas.selection import JAVASCRIPT_FIELD, Selection
from picas.settings import classicfile, config, configfile
from picas.spool import records
from picas.spool.spool import Spool
from picas.tokenfile import TokenFile
from picas.tokenfile.sweep import Sweep
from picas.tokens import Claimer, Outcome, State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["javascript"]

pytestmark = pytest.mark.embedded


@pytest.fixture
def pool() -> Iterator[Pool]:
    with directory() as place, open_pool(f"sqlite:///{place}/pool.db") as opened:
        yield opened


# --- Token files ---

PIECES = st.sampled_from(
    [
        b'"', b",", b"\n", b"\r\n", b"\r", b"\0", b"\xff", b"\xef\xbb\xbf", b"{", b"}", b"[", b"]", b":", b"input",
        b'{"input": 1}', b'{"_id": "a"}', b"_id,q\n", b"lock", b"1e999", b"9" * 5000, b"NaN", b"\\ud800", b"#",
        b"[" * 3000, b"priority", b"null", b" ", "\u2028é".encode(), b'"\\', b"\x1f\x8b", b"tru",
    ]
)  # fmt: skip
CONTENTS = st.one_of(
    st.lists(PIECES, max_size=12).map(b"".join), st.binary(max_size=60), ANY.map(json.dumps).map(str.encode)
)


@given(content=CONTENTS, kind=st.sampled_from(["lines", "csv", "jsonl", "json", None]))
@examples(120)
def test_any_token_file_is_read_or_refused_by_its_line(
    pool: Pool, tmp_path: Path, content: bytes, kind: str | None
) -> None:
    path = tmp_path / "tokens.txt"
    path.write_bytes(content)
    try:
        with TokenFile(path, format=kind) as tokens:
            number = tokens.check()
            drafts = list(tokens)
    except TokenFileError:
        return
    assert number == len(drafts)
    pushed = pool.push([draft.fields for draft in drafts], again=True).pushed
    assert pushed == number
    pool.delete(pool.tokens())


@given(st.lists(st.text(alphabet="=,:.-+eE0123456789 q[]{}\"'a#\n", max_size=14), min_size=1, max_size=3))
@examples(120)
def test_any_sweep_is_made_or_refused(specs: list[str]) -> None:
    try:
        sweep = Sweep(specs)
        sweep.check()
    except InvalidInput:
        return
    assert all("input" in draft.fields or draft.fields for draft in islice(sweep, 50))


# --- Conditions ---

WORDS = st.sampled_from(
    "cores id _id doc ['a'] .b == != < <= > >= in is not and or ( ) [ ] , 'x' \"y\" 1 -1 0x4 1e400 1_0 None True False "
    "startswith contains endswith lambda : if else for await * ** + - ~ @ f'{x}' b'x' ... := # \\ \n \t \0 é".split(
        " "
    )
)


@given(st.one_of(st.text(max_size=20), st.lists(WORDS, max_size=10).map(" ".join)))
@examples(200)
def test_any_text_is_a_condition_or_refused(text: str) -> None:
    try:
        selection = Selection.parse(text)
    except SelectionError:
        return
    assert Selection.parse(selection.text).matches("t", {"cores": 1}) is selection.matches("t", {"cores": 1})


def _node(inner: st.SearchStrategy[ast.expr]) -> st.SearchStrategy[ast.expr]:
    ops = st.sampled_from(
        [ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.In, ast.NotIn, ast.Is, ast.IsNot]
    )
    functions = st.sampled_from(["startswith", "endswith", "contains"]).map(
        lambda name: ast.Name(name, ast.Load())
    )
    return st.one_of(
        st.builds(
            ast.BoolOp, st.sampled_from([ast.And(), ast.Or()]), st.lists(inner, min_size=2, max_size=3)
        ),
        st.builds(ast.UnaryOp, st.just(ast.Not()), inner),
        st.builds(lambda left, op, right: ast.Compare(left, [op()], [right]), inner, ops, inner),
        st.builds(lambda a, o, b, p, c: ast.Compare(a, [o(), p()], [b, c]), inner, ops, inner, ops, inner),
        st.builds(lambda function, a, b: ast.Call(function, [a, b], []), functions, inner, inner),
        st.builds(lambda items: ast.Tuple(items, ast.Load()), st.lists(inner, min_size=1, max_size=2)),
        st.builds(
            lambda value, name: ast.Attribute(value, name, ast.Load()),
            inner,
            st.sampled_from(["a", "b", "run"]),
        ),
    )


LEAVES: st.SearchStrategy[ast.expr] = st.one_of(
    st.sampled_from(["cores", "id", "input", "picas", "note"]).map(lambda name: ast.Name(name, ast.Load())),
    st.sampled_from([0, 1, 4, 0.5, "x", "", "token", True, None, 2**53, "é"]).map(ast.Constant),
)
TREES = st.recursive(LEAVES, _node, max_leaves=6)


@given(trees=st.lists(TREES, min_size=8, max_size=8), body=bodies())
@examples(25)
def test_any_tree_that_is_a_condition_means_the_same_everywhere(
    javascript: Callable[[str, list[Any]], list[Any]], trees: list[ast.expr], body: dict[str, Any]
) -> None:
    for tree in trees:
        try:
            selection = Selection.parse(ast.unparse(ast.fix_missing_locations(ast.Expression(tree))))
        except SelectionError:
            continue
        if "huge" in json.dumps(
            _plain(body)
        ):  # numbers beyond 2^53 are others in JavaScript, as the docs say
            continue
        says = selection.matches("odd", body)
        expression, params = selection.sql()
        with sqlite3.connect(":memory:") as db:
            row = db.execute(
                f"SELECT {expression} FROM (SELECT ? AS id, ? AS doc)", [*params, "odd", json.dumps(body)]
            )
            assert row.fetchone()[0] == int(says), selection.text
        db.close()
        told = javascript(f"{JAVASCRIPT_FIELD}\nreturn {selection.javascript()};", [{**body, "_id": "odd"}])
        assert told == [says], selection.text


def _plain(value: Any) -> Any:
    """The value, with a word for numbers that JavaScript has no exact form of."""
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return "huge" if isinstance(value, (int, float)) and abs(value) >= 2**53 else value


# --- Settings ---

NAMES = st.sampled_from(
    "pool run couchdb username password ca auth insecure workers max_scrub timeout collect wait max-tasks retry-on "
    "budget lease x".split()
)
VALUES = sometimes(
    st.sampled_from(
        [
            "sqlite:///a.db",
            "https://u:p@h/db",
            "~nobody/x",
            "1h",
            "x",
            "",
            1,
            -1,
            True,
            [1],
            {},
            "http://[",
            "http://h:x/d",
        ]
    )
)


@given(st.dictionaries(NAMES, st.one_of(VALUES, st.dictionaries(NAMES, VALUES, max_size=4)), max_size=4))
@examples(80)
def test_any_settings_are_taken_or_refused(tmp_path: Path, settings: dict[str, Any]) -> None:
    path = tmp_path / "config.toml"
    path.write_text(
        "\n".join(_toml(name, value) for name, value in sorted(settings.items(), key=_tables_last))
    )
    _load(path)


def _tables_last(item: tuple[str, Any]) -> bool:
    return isinstance(item[1], dict)


def _toml(name: str, value: Any) -> str:
    if isinstance(value, dict):
        lines = [f"{key} = {json.dumps(each)}" for key, each in value.items() if not isinstance(each, dict)]
        return "\n".join([f"[{name}]", *lines])
    return f"{name} = {json.dumps(value)}"


def _load(path: Path) -> None:
    path.chmod(0o600)
    try:
        loaded = config.load(None, {}, path)
    except ConfigError:
        return
    assert isinstance(loaded.pool, str)


TOML = st.sampled_from(
    ["[", "]", "=", '"', "'", '"""', "run", "couchdb", "pool", ".", "\n", "#", "{", "}", "1", "9" * 5000, "[" * 1500,
     "a = 1\n", "[run]\n", "[couchdb]\n", "\\u", "-", "1979-05-27", "inf", "nan", "\r", "\0", "é", "password = 'x'\n"]
)  # fmt: skip


@given(text=st.one_of(st.lists(TOML, max_size=10).map("".join), st.text(max_size=30)))
@example(text="run=" + "9" * 5000)
@examples(120)
def test_any_text_is_a_file_of_settings_or_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    _load(path)
    before = path.read_bytes()
    try:
        configfile.change(path, {"pool": "sqlite:///other.db"})
    except ConfigError:
        assert path.read_bytes() == before
    else:
        assert config.parse(path, path.read_text("utf-8"))["pool"] == "sqlite:///other.db"


YAML = st.sampled_from(
    ["host_url", "database", "username", "encrypted_password", ":", " ", "\n", "- ", "{", "}", "[", "&a", "*a", "!!", "|",
     "'", '"', "x", "http://h", "#", "\t", "---\n", "? ", "é", "\0", "%"]
)  # fmt: skip


@given(st.one_of(st.lists(YAML, max_size=14).map("".join), st.text(max_size=30)))
@examples(80)
def test_any_text_is_a_file_of_1x_or_refused(tmp_path: Path, text: str) -> None:
    pytest.importorskip("yaml")
    path = tmp_path / "conf.yml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with suppress(ConfigError):
        assert classicfile.read(path)


# --- What pilots have left ---


@contextmanager
def left_place() -> Iterator[tuple[Pool, Spool]]:
    """A pool and its spool."""
    with directory() as place, open_pool(f"sqlite:///{place}/pool.db") as pool:
        yield pool, Spool(place / "spool", pool.url)


def kept(pool: Pool, spool: Spool, number: int) -> Path:
    """A journal with so many results, of a pilot that is gone."""
    pool.push([{"_id": f"t_{n}", "input": "x"} for n in range(number)])
    journal = spool.journal()
    for token in pool.claim_many(number, Claimer("p", "h")):
        log = Payload(f"logs_{token.id}.out", "text/plain", (token.id.encode() * 20,))
        journal.keep([Result(token, Outcome(0, 1.0, 2.0), (log,))], Budgets())
    path: Path = journal.path
    journal.close()
    return path


@given(
    at=st.floats(0, 1, exclude_max=True),
    how=st.sampled_from(["flip", "cut", "insert", "remove"]),
    junk=st.binary(max_size=9),
)
@examples(30)
def test_a_damaged_journal_loses_nothing_else(at: float, how: str, junk: bytes) -> None:
    with left_place() as (pool, spool):
        path = kept(pool, spool, 4)
        data = path.read_bytes()
        place = int(at * len(data))
        whole, _ = records.read(path)
        before = [each for each in _ends(data) if each <= place]
        path.write_bytes(
            {
                "flip": data[:place] + bytes([data[place] ^ 0x41]) + data[place + 1 :],
                "cut": data[:place],
                "insert": data[:place] + junk + data[place:],
                "remove": data[:place] + data[place + 3 :],
            }[how]
        )
        sent, left = spool.flush(pool)
        assert sent >= len(before)
        done = sum(token.state is State.DONE for token in pool.tokens())
        assert done == sent <= len(whole)
        if how == "flip":
            assert left or sent == 4
            assert path.exists() == bool(left)


def _ends(data: bytes) -> list[int]:
    """Where the records end."""
    starts = [place for place in range(len(data)) if data.startswith(records._MAGIC, place)]
    return [*starts[1:], len(data)]


@given(data=st.data())
@examples(50)
def test_a_record_that_another_version_may_have_written_is_sent_or_stays(data: st.DataObject) -> None:
    with left_place() as (pool, spool):
        path = kept(pool, spool, 1)
        text = path.read_bytes().partition(b"\n")[2]
        documents, end = json.JSONDecoder().raw_decode(text.decode("latin-1"))
        blob = text[end:]
        _spoil(data, documents)
        path.write_bytes(records.record_of([json.dumps(each) for each in documents], [blob]))
        sent, left = spool.flush(pool)
        assert path.exists() == bool(left)
        assert sent <= 1


@given(data=st.data())
@examples(40)
def test_a_result_that_a_former_version_kept_is_sent_or_stays(data: st.DataObject) -> None:
    with left_place() as (pool, spool):
        pool.push(["x"], again=True)
        token = pool.claim(Claimer("p", "h"))
        assert token is not None
        entry = spool.directory / str(token.claim_id)
        entry.mkdir(parents=True)
        outcome = {**vars(Outcome(1, 1.0, 2.0)), "failure": "application"}
        document = {"token": token.document(), "outcome": outcome, "logs": 1, "max_scrub": 0,
                    "files": [{"name": "a", "content_type": "text/plain", "file": "0"}]}  # fmt: skip
        (entry / "0").write_text("log")
        documents = [document]
        _spoil(data, documents)
        (entry / "result.json").write_text(json.dumps(documents[0]))
        sent, left = spool.flush(pool)
        assert sent + left == 1
        assert entry.exists() == bool(left)


def _spoil(data: st.DataObject, documents: list[Any]) -> None:
    """Put anything in the place of one value."""
    places: list[tuple[Any, Any]] = []

    def walk(value: Any) -> None:
        items = (
            value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        )
        for name, inner in items:
            places.append((value, name))
            walk(inner)

    walk(documents)
    where, name = places[data.draw(st.integers(0, len(places) - 1))]
    where[name] = data.draw(st.one_of(SCALARS, ANY))
