"""`picas get`: files out of the pool, and nowhere else."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from picas.cli.saving import place_of, save
from picas.errors import InvalidInput, PicasError

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Shell


ATTACH = """
import picas, sys
from picas.payload import Payload
from picas.tokens import Outcome
pool = picas.open_pool()
token = pool.claim()
files = [Payload(name, "text/plain", (name.encode(),)) for name in sys.argv[1:]]
pool.finish(token, Outcome(0, 1e9, 1e9), files=files)
"""


def _finish_with(shell: Shell, *names: str) -> None:
    shell.here("push", "--again", shell.write("t.txt", "x\n"))
    subprocess.run(
        [sys.executable, "-c", ATTACH, *names], cwd=shell.directory, env=shell.environment, check=True
    )


def _saved(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if not path.is_dir())


@pytest.mark.any_pool
def test_all_but_the_logs_are_saved_here(mixed: Shell, tmp_path: Path) -> None:
    answer = mixed.here("get", "good1", "-o", str(tmp_path))
    assert (answer.code, answer.out) == (0, f"{tmp_path}/result.txt  5 B\n")
    assert (tmp_path / "result.txt").read_text() == "data\n"
    assert _saved(tmp_path) == ["result.txt"]


@pytest.mark.any_pool
def test_logs_too_if_wanted_and_json(mixed: Shell, tmp_path: Path) -> None:
    answer = mixed.here("get", "good1", "--logs", "--json", "-o", str(tmp_path / "new" / "place"))
    assert [(each["id"], each["name"], each["bytes"]) for each in answer.json_lines] == [
        ("good1", "logs_good1.err", 8), ("good1", "logs_good1.out", 6), ("good1", "result.txt", 5),
    ]  # fmt: skip
    assert answer.json_lines[2]["path"] == f"{tmp_path}/new/place/result.txt"


@pytest.mark.any_pool
@pytest.mark.parametrize(
    ("names", "saved"),
    [
        (["logs_good1.out"], ["logs_good1.out"]),
        (["*.txt"], ["result.txt"]),
        (["*.err", "result.txt"], ["logs_good1.err", "result.txt"]),
    ],
)
def test_those_that_are_named(mixed: Shell, tmp_path: Path, names: list[str], saved: list[str]) -> None:
    assert mixed.here("get", "good1", *names, "-o", str(tmp_path)).code == 0
    assert _saved(tmp_path) == saved


def test_several_tokens_have_a_directory_each(mixed: Shell, tmp_path: Path) -> None:
    assert mixed.here("get", "good1", "bad3", "--logs", "-o", str(tmp_path)).code == 0
    assert _saved(tmp_path) == [
        "bad3/logs_bad3.err", "bad3/logs_bad3.out", "good1/logs_good1.err", "good1/logs_good1.out", "good1/result.txt",
    ]  # fmt: skip


@pytest.mark.any_pool
def test_tokens_chosen_by_state_have_a_directory_each(mixed: Shell, tmp_path: Path) -> None:
    assert mixed.here("get", "--state", "done", "-o", str(tmp_path)).code == 0
    assert _saved(tmp_path) == ["good1/result.txt"]


def test_nothing_to_save_is_told(mixed: Shell, tmp_path: Path) -> None:
    answer = mixed.here("get", "trick2", "-o", str(tmp_path))
    assert (answer.code, answer.out) == (0, "there are no files but logs; --logs saves those too\n")
    assert mixed.here("get", "trick2", "--json", "-o", str(tmp_path)).out == ""


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        ((), 2, "picas: whose files?\nName a token, or choose some with --state or --where.\n"),
        (("nope",), 1, "picas: there is no token nope in "),
        (("good1", "nofile"), 1, "picas: 'nofile' is neither a file of the first token nor a token\n"),
        (("good1", "*.png"), 1, "picas: there is no file *.png\n"),
        (("good1", "-o", "/dev/null/x"), 1, "picas: /dev/null/x/result.txt cannot be written: "),
    ],
)
def test_what_cannot_be_saved(mixed: Shell, args: tuple[str, ...], code: int, message: str) -> None:
    answer = mixed.here("get", *args)
    assert (answer.code, answer.out) == (code, "")
    assert answer.err.startswith(message)


def test_nothing_is_written_over_unasked(mixed: Shell, tmp_path: Path) -> None:
    (tmp_path / "result.txt").write_text("mine")
    answer = mixed.here("get", "good1", "--logs", "-o", str(tmp_path))
    assert answer.code == 1
    assert answer.err == (
        f"picas: {tmp_path}/result.txt is there already\n"
        "Save to another directory with -o, or write over it with --force.\n"
    )
    assert _saved(tmp_path) == ["result.txt"]
    assert (tmp_path / "result.txt").read_text() == "mine"
    assert mixed.here("get", "good1", "--force", "-o", str(tmp_path)).code == 0
    assert (tmp_path / "result.txt").read_text() == "data\n"


def test_a_link_at_the_place_is_replaced_not_followed(mixed: Shell, tmp_path: Path) -> None:
    (tmp_path / "target").write_text("mine")
    (tmp_path / "result.txt").symlink_to(tmp_path / "target")
    assert mixed.here("get", "good1", "-o", str(tmp_path)).code == 1
    assert mixed.here("get", "good1", "--force", "-o", str(tmp_path)).code == 0
    assert (tmp_path / "target").read_text() == "mine"
    assert not (tmp_path / "result.txt").is_symlink()


@pytest.mark.any_pool
def test_names_with_slashes_make_directories(picas: Shell, tmp_path: Path) -> None:
    _finish_with(picas, "plots/a/b.png", "plots/c.png")
    assert picas("get", "token_0", "-o", str(tmp_path / "out")).code == 0
    assert _saved(tmp_path / "out") == ["plots/a/b.png", "plots/c.png"]


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/../../evil", "a//b", "././a", "a/."])
def test_names_that_lead_out_are_refused(picas: Shell, tmp_path: Path, name: str) -> None:
    _finish_with(picas, name, "good1")
    answer = picas.here("get", "token_0", "-o", str(tmp_path / "out" / "deep"))
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith(f"picas: the name '{name}' leads out of the directory, or nowhere\n")
    assert not (tmp_path / "out").exists()


def test_a_name_that_leads_out_does_not_keep_the_files_of_other_tokens(picas: Shell, tmp_path: Path) -> None:
    _finish_with(picas, "../../evil", "good1")
    _finish_with(picas, "good2")
    answer = picas.here("get", "--state", "done", "-o", str(tmp_path / "out"))
    assert answer.code == 2
    assert answer.err.startswith(
        "picas: the name 'token_0/../../evil' leads out of the directory, or nowhere\n"
    )
    assert _saved(tmp_path / "out") == ["token_0/good1", "token_1/good2"]
    assert not list(tmp_path.rglob("evil"))


def test_links_that_lead_out_are_refused(picas: Shell, tmp_path: Path) -> None:
    _finish_with(picas, "plots/a.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out" / "plots").symlink_to(tmp_path / "elsewhere")
    answer = picas("get", "token_0", "-o", str(tmp_path / "out"))
    assert answer.code == 2
    assert "is a link that leads out of" in answer.err
    assert _saved(tmp_path / "elsewhere") == []


def test_links_that_stay_inside_are_fine(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert place_of(tmp_path, "link/a") == tmp_path / "link" / "a"
    with pytest.raises(InvalidInput):
        place_of(tmp_path, "..", "a")


def test_a_file_that_cannot_be_read_to_its_end_leaves_nothing(tmp_path: Path) -> None:
    def pieces() -> object:
        yield b"begun"
        raise PicasError("the pool is gone")

    with pytest.raises(PicasError, match="the pool is gone"):
        save(tmp_path / "sub" / "a.txt", pieces(), force=False)  # type: ignore[arg-type]
    assert os.listdir(tmp_path / "sub") == []
