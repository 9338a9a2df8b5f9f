"""The main job with a pool on CouchDB, by the command line: push, run, look, reset."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    Picas = Callable[..., subprocess.CompletedProcess[str]]

TOKENS = Path(__file__).resolve().parents[2] / "examples" / "quick" / "tokens.txt"


@pytest.fixture
def picas(database: str, tmp_path: Path) -> Picas:
    """The command, in an empty folder, with the database as its pool."""
    parts = urlsplit(database)
    environ = {**os.environ, "PICAS_POOL": f"{parts.scheme}://{parts.hostname}:{parts.port}{parts.path}"}
    if parts.username:
        environ.update(PICAS_USERNAME=parts.username, PICAS_PASSWORD=parts.password or "")

    def run(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "picas", *words],
            cwd=tmp_path,
            env={**environ, **more},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    return run


def counts(picas: Picas) -> tuple[int, int, int, int]:
    found = json.loads(picas("status", "--json").stdout)
    return found["todo"], found["locked"], found["done"], found["error"]


def test_tokens_are_pushed_once_run_shown_and_made_free_again(picas: Picas) -> None:
    assert "pushed 10 tokens (token_0 … token_9)" in picas("push", str(TOKENS)).stdout
    assert "pushed 0 tokens" in picas("push", str(TOKENS)).stdout
    assert counts(picas) == (10, 0, 0, 0)
    assert "10 done" in picas("run", "--workers", "2").stdout
    assert counts(picas) == (0, 0, 10, 0)
    assert picas("logs", "token_0").stdout == "Hello from a token\n"
    assert [json.loads(line)["id"] for line in picas("list", "--json").stdout.splitlines()] == [
        f"token_{n}" for n in range(10)
    ]
    assert "reset 10 tokens" in picas("reset", "done", "--yes").stdout
    assert counts(picas) == (10, 0, 0, 0)


def test_a_failed_token_is_retried_and_keeps_the_logs_of_each_attempt(picas: Picas, tmp_path: Path) -> None:
    (tmp_path / "tokens.txt").write_text("echo attempt $PICAS_ATTEMPT; exit 3\n")
    picas("push", "tokens.txt")
    assert "1 failed" in picas("run", "--max-scrub", "1").stdout
    assert counts(picas) == (0, 0, 0, 1)
    assert picas("logs", "token_0", "--attempt", "1").stdout == "attempt 1\n"
    assert picas("logs", "token_0").stdout == "attempt 2\n"


@pytest.mark.couchdb
def test_a_wrong_password_is_told_once_and_the_password_never(picas: Picas) -> None:
    done = picas("run", PICAS_PASSWORD="not-the-password", PICAS_USERNAME="somebody-else")
    assert done.returncode == 1
    assert "401" in done.stderr
    assert "Check name and password" in done.stderr
    assert "not-the-password" not in done.stdout + done.stderr


def test_a_database_that_is_not_there_is_named(picas: Picas, database: str) -> None:
    parts = urlsplit(database)
    done = picas("status", "--pool", f"{parts.scheme}://{parts.hostname}:{parts.port}/nosuchdatabase")
    assert done.returncode == 1
    assert "there is no database nosuchdatabase" in done.stderr
