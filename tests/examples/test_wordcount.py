"""The word count example: a Python function per token, run as its README says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import picas

FOLDER = Path(__file__).parents[2] / "examples" / "wordcount"


def word_count(tmp_path, *arguments):
    """Run the program on a pool of its own."""
    command = [
        sys.executable,
        str(FOLDER / "wordcount.py"),
        "--pool",
        pool_url(tmp_path),
        *map(str, arguments),
    ]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path, env=environment
    )


def pool_url(tmp_path):
    return f"sqlite:///{tmp_path / 'words.db'}"


def test_the_bundled_texts_are_counted(tmp_path):
    result = word_count(tmp_path, "--top", "3")
    assert (result.returncode, result.stderr) == (0, "")

    # counted another way: no apostrophe in them stands outside a word
    texts = [path.read_text(encoding="utf-8").lower() for path in FOLDER.glob("texts/*.txt")]
    words = Counter(re.sub(r"[^a-z']", " ", " ".join(texts)).split())
    assert len(texts) == 5
    top = [f"{count:7} {word}" for word, count in words.most_common(3)]
    summary = f"{sum(words.values())} words, {len(words)} different, in 5 of 5 texts"
    assert result.stdout.splitlines() == [summary, *top]


def test_each_text_is_a_token_with_its_own_count(tmp_path):
    text = tmp_path / "été.txt"
    text.write_text("L’été, l'été! It's été.", encoding="utf-8")
    assert word_count(tmp_path, text).returncode == 0
    with picas.open_pool(pool_url(tmp_path)) as pool:
        (token,) = pool.tokens()
    assert (token.state, token.input) == (picas.State.DONE, str(text))
    assert token["output"] == {"words": 4, "counts": {"l’été": 1, "l'été": 1, "it's": 1, "été": 1}}


def test_a_second_run_counts_its_own_texts_only(tmp_path):
    text = tmp_path / "a.txt"
    text.write_text("one two two")
    outputs = [word_count(tmp_path, text).stdout for _ in range(2)]
    assert outputs[0].startswith("3 words, 2 different, in 1 of 1 texts\n      2 two\n")
    assert outputs[1] == outputs[0]


def test_a_text_that_cannot_be_read_is_named_and_the_others_count(tmp_path):
    (tmp_path / "good.txt").write_text("fine words")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    result = word_count(tmp_path, "good.txt", "latin.txt", "none.txt")
    assert result.returncode == 1
    assert result.stdout.startswith("2 words, 2 different, in 1 of 3 texts\n")
    for name in ("latin.txt", "none.txt"):
        assert f"could not count {tmp_path / name}" in result.stderr
