"""What the page of guarantees names as proofs is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "explanation" / "guarantees.md"
NAMED = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE.read_text())


def test_each_promise_has_a_proof() -> None:
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("|")][2:]
    assert len(rows) >= 10
    assert [row for row in rows if "`tests/" not in row] == []


@pytest.mark.parametrize(("path", "name"), sorted(set(NAMED)))
def test_a_proof_that_is_named_is_a_test(path: str, name: str) -> None:
    tree = ast.parse((ROOT / path).read_text())
    assert name in {node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
