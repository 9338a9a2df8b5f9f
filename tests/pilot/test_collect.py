"""Files that the work leaves and the pilot attaches."""

from __future__ import annotations

import os

import pytest

from picas.errors import InvalidInput


def names(bench):
    return sorted(name for name in bench.token().attachments if not name.startswith("logs_"))


@pytest.mark.any_pool
def test_files_that_match_are_attached_under_their_paths(bench):
    bench.push(
        "mkdir -p sub/deep; echo 1 > a.txt; echo 2 > sub/b.txt; echo 3 > sub/deep/c.txt; echo 4 > d.png"
    )
    bench.run(collect=["*.txt", "sub/**/*.txt", "a*"])
    assert names(bench) == ["a.txt", "sub/b.txt", "sub/deep/c.txt"]
    assert bench.attached("sub/deep/c.txt") == b"3\n"
    assert bench.token().attachments["a.txt"].content_type == "text/plain"


@pytest.mark.any_pool
def test_a_large_binary_file_arrives_byte_for_byte(bench):
    data = os.urandom(5_000_000)
    (bench.path / "data").write_bytes(data)
    bench.push(f"cp '{bench.path}/data' result.bin")
    bench.run(collect=["*.bin"])
    assert bench.attached("result.bin") == data


def test_a_failed_attempt_gets_its_files_too(bench):
    bench.push("echo half > a.txt; exit 1")
    bench.run(collect=["*"])
    assert bench.attached("a.txt") == b"half\n"


def test_a_link_that_leads_out_is_not_followed_and_named(bench):
    (bench.path / "secret").write_text("secret")
    bench.push(
        f"ln -s '{bench.path}/secret' out.txt; ln -s '{bench.path}' dir; echo in > in.txt; ln -s in.txt link.txt"
    )
    assert bench.run(collect=["*.txt", "dir/secret"]).done == 1
    assert names(bench) == ["in.txt", "link.txt"]
    assert bench.token().output["picas_not_attached"] == ["dir/secret", "out.txt"]


def test_a_file_with_the_name_of_a_log_does_not_replace_it(bench):
    bench.push("echo true log; echo false log > logs_token_0.out")
    bench.run(collect=["*"])
    assert bench.out() == "true log\n"
    assert bench.token().output["picas_not_attached"] == ["logs_token_0.out"]


@pytest.mark.skipif(os.uname().sysname != "Linux", reason="names of files are bytes on Linux only")
def test_what_cannot_be_attached_is_named_and_does_no_harm(bench):
    bench.push("mkfifo pipe; : > $'\\xff'; ln -s nowhere dangling; : > good")
    assert bench.run(collect=["*"]).done == 1
    assert names(bench) == ["good"]
    assert bench.token().output["picas_not_attached"] == ["dangling", "pipe", "\\udcff"]


def test_a_directory_that_the_command_removed_holds_nothing(bench):
    bench.push('rm -rf "$(dirname "$PWD")"; echo gone', "echo next")
    summary = bench.run(collect=["*", "**/*"])
    assert summary.done == 2
    assert "cannot be read" in bench.out("token_0")
    assert bench.out("token_1") == "next\n"


@pytest.mark.parametrize("pattern", ["/etc/*", "../*", "a/../../b", "~/x", "", "."])
def test_patterns_that_leave_the_directory_are_refused(bench, pattern):
    with pytest.raises(InvalidInput):
        bench.pilot(collect=[pattern])


@pytest.mark.any_pool
def test_files_of_a_function_are_collected_alike(bench):
    def work(token, job):
        (job.scratch / "a.txt").write_text("made")

    bench.push("x", "y")
    bench.run(work, collect=["*.txt"], max_tasks=1)
    bench.run(work, collect=["*.txt"], workers=2)
    assert bench.attached("a.txt", "token_0") == bench.attached("a.txt", "token_1") == b"made"
