"""Real JavaScript for the tests that compare with it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from typing import IO, TYPE_CHECKING, Any, Callable, cast

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

_PROGRAM = """
require('readline').createInterface({input: process.stdin}).on('line', function (line) {
  var work = JSON.parse(line);
  var answer = new Function('doc', work.body);
  console.log(JSON.stringify(work.docs.map(function (doc) { return answer(doc); })));
});
"""


@pytest.fixture(scope="session")
def javascript() -> Iterator[Callable[[str, list[Any]], list[Any]]]:
    """A function of the body of a JavaScript function of ``doc`` and of documents: what it returns for each."""
    node = shutil.which("node")
    if node is None:
        if "CI" in os.environ:
            pytest.fail("node is not installed, and in CI nothing is left out")
        pytest.skip("node is not installed")
    with subprocess.Popen(
        [node, "-e", _PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8"
    ) as process:
        stdin, stdout = cast("IO[str]", process.stdin), cast("IO[str]", process.stdout)

        def ask(body: str, docs: list[Any]) -> list[Any]:
            stdin.write(json.dumps({"body": body, "docs": docs}) + "\n")
            stdin.flush()
            return cast("list[Any]", json.loads(stdout.readline()))

        yield ask
        process.kill()
