"""Logs and results over what a server, or a proxy before it, takes: cut or left out, and never in silence."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.cli.conftest import Shell
from tests.couchdb.faults import Answer, error_page
from tests.couchdb.servers import CouchServer, couchdb_home

from picas.pilot.loop import Pilot
from picas.pool import open_pool
from picas.tokens import State, Token

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.couchdb.conftest import Proxied
    from tests.couchdb.exchange import Request

LIMIT = 100_000
"""Bytes of an attachment that the server takes."""

DOCUMENT_LIMIT = 300_000
"""Bytes of a document."""


@pytest.fixture(scope="module")
def _narrow() -> Iterator[CouchServer]:
    if couchdb_home() is None:
        pytest.skip("only Apache CouchDB has these limits")
    limits = {"max_attachment_size": LIMIT, "max_document_size": DOCUMENT_LIMIT}
    with CouchServer({"couchdb": limits}) as server:
        yield server


@pytest.fixture
def narrow(_narrow: CouchServer, request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a database on a server with small limits."""
    path = f"/narrow_{abs(hash(request.node.name))}"
    assert _narrow.ask("PUT", path)[0] in {201, 202}
    yield _narrow.url + path
    _narrow.ask("DELETE", path)


def run(url: str, tmp_path: Path, *inputs: str, **knobs: Any) -> dict[str, Token]:
    """Push these and run them; the tokens by their input."""
    with open_pool(url) as pool:
        pool.push(list(inputs))
        Pilot(pool, scratch=tmp_path, spool=tmp_path / "spool", **knobs).run()
        return {token.input: pool.get(token.id) for token in pool.tokens()}


def read(url: str, token: Token, name: str) -> bytes:
    with open_pool(url) as pool:
        return b"".join(pool.read_attachment(token.id, name))


pytestmark = pytest.mark.couchdb


def test_a_log_over_the_limit_is_cut_to_head_and_tail_and_the_token_is_done(
    narrow: str, tmp_path: Path
) -> None:
    shown = "echo begin; seq 1 100000; echo end"
    tokens = run(narrow, tmp_path, shown, "echo small", "seq 1 50000 >&2; echo end >&2; exit 3")
    token = tokens[shown]
    assert token.state is State.DONE
    log = read(narrow, token, f"logs_{token.id}.out")
    assert LIMIT / 4 < len(log) < LIMIT
    assert log.startswith(b"begin\n1\n2\n")
    assert log.endswith(b"99999\n100000\nend\n")
    assert b"bytes left out here: the pool takes no more]" in log
    (note,) = token.run["notes"]
    assert note.startswith(f"logs_{token.id}.out: ")
    assert "588," in note  # the length that it had
    assert "notes" not in tokens["echo small"].run
    failed = tokens["seq 1 50000 >&2; echo end >&2; exit 3"]
    assert (failed.state, failed["exit_code"]) == (State.ERROR, 3)
    assert read(narrow, failed, f"logs_{failed.id}.err").endswith(b"50000\nend\n")
    assert not list(tmp_path.glob("spool/*/*"))
    assert note in Shell(tmp_path, narrow).here("show", token.id).out


def test_what_the_limit_is_is_learnt_once(narrow: str, tmp_path: Path) -> None:
    with open_pool(narrow) as pool:
        pool.push(["seq 1 40000"] * 5)
        refused = []
        replace = pool.store.replace

        def counting(changes: Any) -> Any:
            try:
                return replace(changes)
            except Exception as error:
                refused.append(error)
                raise

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pool.store, "replace", counting)
            Pilot(pool, scratch=tmp_path, spool=tmp_path / "spool").run()
        assert pool.counts()[State.DONE] == 5
        assert len(refused) < 10


def test_a_result_over_the_limit_makes_an_error_and_stays_where_it_is(narrow: str, tmp_path: Path) -> None:
    make = "head -c 200000 /dev/zero > large.dat; echo 1 > small.txt; echo made"
    (token,) = run(narrow, tmp_path, make, collect=["*.dat", "*.txt"]).values()
    assert token.state is State.ERROR
    assert token["exit_code"] == 126
    message = token["error"][-1]["message"]
    assert message.startswith("large.dat (200,000 bytes) could not be saved: ")
    assert "takes no file as large as large.dat" in message
    assert (Path(token.run["kept"]) / "work" / "large.dat").stat().st_size == 200_000
    assert read(narrow, token, "small.txt") == b"1\n"
    assert read(narrow, token, f"logs_{token.id}.out") == b"made\n"
    shell = Shell(tmp_path, narrow)
    assert "large.dat (200,000 bytes) could not be saved" in shell.here("errors").out
    assert (
        f"its directory is kept on {token.run['host']}: {token.run['kept']}"
        in shell.here("show", token.id).out
    )


def test_a_failure_stays_the_failure_that_it_was(narrow: str, tmp_path: Path) -> None:
    make = "head -c 200000 /dev/zero > large.dat; exit 9"
    (token,) = run(narrow, tmp_path, make, collect=["*.dat"]).values()
    assert (token.state, token["exit_code"], token.run["failure"]) == (State.ERROR, 9, "application")
    assert "large.dat (200,000 bytes) could not be saved" in token.run["notes"][0]
    assert Path(token.run["kept"]).is_dir()


def test_an_output_over_the_limit_of_documents_is_attached(narrow: str, tmp_path: Path) -> None:
    report = """python3 -c "import json; print(json.dumps({'n': 'x' * 90000}))" > $PICAS_OUTPUT"""
    many = """python3 -c "import json; print(json.dumps({'n': [0] * 200000}))" > $PICAS_OUTPUT"""
    tokens = run(narrow, tmp_path, report, many)
    assert tokens[report].output == {"n": "x" * 90000}
    # 600 KB are too much for a document and for an attachment here: that is told, and the directory is kept.
    assert tokens[many].state is State.ERROR
    assert "could not be saved" in tokens[many]["error"][-1]["message"]
    assert Path(tokens[many].run["kept"]).is_dir()


def test_a_proxy_that_takes_little_in_one_request_gets_little(proxied: Proxied, tmp_path: Path) -> None:
    """As nginx does with its client_max_body_size, of one megabyte unless somebody has raised it."""

    def is_large(request: Request) -> bool:
        return int(request.headers.get("content-length", 0)) > 200_000

    proxied.proxy.fault(error_page(413), where=is_large, count=None)
    inputs = ["seq 1 300000", *(f"seq 1 9000; echo {n}" for n in range(20))]
    tokens = run(proxied.url, tmp_path, *inputs, workers=2)
    assert {token.state for token in tokens.values()} == {State.DONE}
    long = read(proxied.direct, tokens[inputs[0]], f"logs_{tokens[inputs[0]].id}.out")
    assert long.startswith(b"1\n2\n")
    assert long.endswith(b"299999\n300000\n")
    for n in range(20):
        token = tokens[f"seq 1 9000; echo {n}"]
        assert read(proxied.direct, token, f"logs_{token.id}.out").endswith(f"9000\n{n}\n".encode())


def test_a_push_through_such_a_proxy_goes_in_smaller_parts(proxied: Proxied) -> None:
    def is_large(request: Request) -> bool:
        return int(request.headers.get("content-length", 0)) > 50_000

    proxied.proxy.fault(Answer(413, {"error": "too_large"}), path="_bulk_docs", where=is_large, count=None)
    with open_pool(proxied.url) as pool:
        assert pool.push([{"input": f"echo {n}", "data": "x" * 1000} for n in range(300)]).pushed == 300
        assert pool.counts()[State.TODO] == 300
