"""Passwords stay where they belong: an attacker looks for them in all that a pilot shows and leaves behind."""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from picas.trust import secrecy

if TYPE_CHECKING:
    from conftest import Shell

PATIENCE_SECONDS = 60.0

LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere nobody else can look")

SPY = """
env | sort; echo ---
tr '\\0' '\\n' < /proc/$PPID/cmdline; echo ---
tr '\\0' '\\n' < /proc/$PPID/environ; echo ---
ps -ef; ps auxeww
"""
"""What work that is curious finds out of the pilot it runs under."""


@pytest.fixture
def account(picas: Shell, pool_kind: str, database: str) -> str:
    """The password of the pool's user, which the shell has in its environment."""
    password = urlsplit(database).password
    if not password:
        pytest.skip("this server has no passwords")
    picas.own.update(PICAS_POOL=_plain(database))
    picas.environment.update(PICAS_POOL=_plain(database), PICAS_USERNAME="admin", PICAS_PASSWORD=password)
    return password


def _plain(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _left_behind(directory: Path) -> str:
    return "".join(
        path.read_bytes().decode("utf-8", "replace") for path in directory.rglob("*") if path.is_file()
    )


@LINUX
@pytest.mark.parametrize("way", ["environment", "url in the environment", "command line"])
def test_work_finds_no_password(picas: Shell, account: str, database: str, way: str) -> None:
    picas.write("spy.jsonl", json.dumps({"input": SPY}) + "\n")
    assert picas("push", "spy.jsonl").code == 0
    given: tuple[str, ...] = ()
    if way != "environment":
        del picas.environment["PICAS_PASSWORD"]
    if way == "url in the environment":
        picas.environment["PICAS_POOL"] = database
    if way == "command line":
        given = ("--pool", database)
    answer = picas.anew("run", "--verbose", *given)
    assert answer.code == 0
    assert answer.out.splitlines()[-1].startswith("1 done"), answer.out
    told = picas("logs", "token_0", "--json", *given).out + answer.out + answer.err
    assert "PICAS_TOKEN_ID=token_0" in told
    assert "-m\\npicas\\nrun\\n--verbose" in told.replace("\\\\", "\\")
    shown = told + picas("show", "token_0", *given).out + picas("status", "--json", *given).out
    assert account not in shown
    assert account not in _left_behind(picas.directory)


@LINUX
def test_a_password_on_the_command_line_is_soon_not_there_any_more(
    picas: Shell, account: str, database: str
) -> None:
    picas.environment["PICAS_POOL"] = database
    with picas.start("run", "--wait", "--pool", database) as pilot:
        shown = [Path(f"/proc/{pilot.pid}/{name}") for name in ("cmdline", "environ")]
        until = time.monotonic() + PATIENCE_SECONDS
        while any(account.encode() in path.read_bytes() for path in shown):
            assert time.monotonic() < until, "it is still there"
            time.sleep(0.01)
        assert b"--wait" in shown[0].read_bytes()
        assert b"PICAS_POOL=" in shown[1].read_bytes()
        pilot.terminate()
        pilot.communicate()


def test_errors_and_tracebacks_do_not_tell_it(picas: Shell, account: str, database: str) -> None:
    nowhere = database.rpartition("/")[0] + "/not_there"
    picas.write("broken.py", "import picas\ndef work(token):\n    picas.open_pool().get('none')\n")
    picas("push", picas.write("t.txt", "x\n"))
    shown = ""
    for args in (
        ("status", "--pool", nowhere),
        ("check", "--pool", nowhere, "--json"),
        ("list", "--pool", database.replace("http:", "gopher:")),
        ("run", "--call", "broken:work", "--pool", database, "--workers", "2"),
        ("show", "token_0", "--json"),
    ):
        answer = picas(*args, PICAS_DEBUG="1")
        shown += answer.out + answer.err
    assert "not_there" in shown
    assert account not in shown


def _logged(picas: Shell, *words: str, **environment: str) -> str:
    picas.here("push", "--again", picas.write("t.txt", "env\n"))
    picas("run", *words, **environment)
    newest = picas.here("list", "--json").json_lines[-1]["id"]
    return picas.here("logs", newest).out


def test_work_is_not_told_what_is_named_as_secret(picas: Shell) -> None:
    secrets = {"PICAS_PASSWORD": "pw", "SITE_KEY": "k1", "SITE_TOKEN": "k2", "OTHER": "o"}
    plain = _logged(picas, **secrets)
    assert "PICAS_PASSWORD" not in plain
    assert "SITE_KEY=k1" in plain
    hidden = _logged(picas, "--secret", "SITE_*", **secrets)
    assert "SITE_" not in hidden
    assert "OTHER=o" in hidden
    assert "PICAS_PASSWORD" not in hidden
    kept = _logged(picas, "--keep-secrets", "--secret", "OTHER", **secrets)
    assert "PICAS_PASSWORD=pw" in kept
    assert "OTHER=" not in kept
    (picas.path("config") / "picas").mkdir(parents=True)
    (picas.path("config") / "picas" / "config.toml").write_text('[run]\nsecrets = ["SITE_KEY"]\n')
    configured = _logged(picas, "--secret", "OTHER", **secrets)
    assert "SITE_KEY" not in configured
    assert "SITE_TOKEN=k2" in configured
    assert "OTHER=" not in configured


@pytest.mark.parametrize("workers", ["1", "2"])
def test_functions_do_not_see_them_either(picas: Shell, workers: str) -> None:
    picas.write("spy.py", "import os\ndef work(token):\n    return dict(os.environ)\n")
    picas.here("push", picas.write("t.txt", "x\n"))
    secrets = {"PICAS_PASSWORD": "pw-1234", "SITE_KEY": "key-1234"}
    picas("run", "--call", "spy:work", "--workers", workers, "--secret", "SITE_KEY", **secrets)
    output = json.loads(picas.here("show", "--json", "token_0").out)["output"]
    assert "PATH" in output
    assert not {"PICAS_PASSWORD", "SITE_KEY"} & set(output)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_functions_do_not_see_a_password_in_the_address(
    picas: Shell, account: str, database: str, workers: str
) -> None:
    picas.write("spy.py", "import os\ndef work(token):\n    return dict(os.environ)\n")
    del picas.environment["PICAS_PASSWORD"]
    picas.environment["PICAS_POOL"] = picas.own["PICAS_POOL"] = database
    picas.here("push", picas.write("t.txt", "x\n"))
    assert picas("run", "--call", "spy:work", "--workers", workers).code == 0
    told = picas.here("show", "--json", "token_0").out
    assert json.loads(told)["output"]["PICAS_POOL"] == _plain(database)
    assert account not in told


def test_no_core_file_of_the_pilot_but_of_the_work_as_before(picas: Shell) -> None:
    before = resource.getrlimit(resource.RLIMIT_CORE)
    if before[1] == 0:
        pytest.skip("no core files at all here")
    # Its limit is set a moment after it was started.
    work = "until [ $(ulimit -c) != 0 ]; do sleep 0.05; done; ulimit -c; grep core /proc/$PPID/limits"
    picas.here("push", picas.write("t.txt", work + "\n"))
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (4096, before[1]))
        picas.anew("run")
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, before)
    out = picas.here("logs", "token_0").out
    own, pilots = out.splitlines()
    assert own in ("4", "8")  # in blocks of 1,024 or 512 bytes
    assert pilots.split()[:5] == ["Max", "core", "file", "size", "0"]


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (b"picas\0--pool\0https://me:secret@host/db\0", b"picas\0--pool\0https://me:******@host/db\0"),
        (b"--pool=http://:a@b@c@host:1/db@x\0", b"--pool=http://:*****@host:1/db@x\0"),
        (b"https://host/me:secret@x\0x:y@z\0", b"https://host/me:secret@x\0x:y@z\0"),
    ],
)
def test_what_of_an_argument_is_covered(text: bytes, left: bytes) -> None:
    found = bytearray(text)
    for place, length in secrecy._secrets_in(text, secrecy._in_argument):
        found[place : place + length] = b"*" * length
    assert bytes(found) == left


def test_what_of_the_environment_is_covered() -> None:
    text = b"A=b\0PICAS_PASSWORD=pw\0HTTPS_PROXY=http://me:pw@proxy\0PICAS_POOL=http://me:pw@host/db\0"
    found = bytearray(text)
    for place, length in secrecy._secrets_in(text, secrecy._in_variable):
        found[place : place + length] = b"*" * length
    assert bytes(found) == text.replace(b"PASSWORD=pw", b"PASSWORD=**").replace(b"me:pw@host", b"me:**@host")


@LINUX
def test_what_is_covered_is_there_for_the_program_and_what_it_starts(picas: Shell) -> None:
    program = (
        "import os, subprocess\nfrom picas.trust import secrecy\nsecrecy.cover()\n"
        "print(os.environ['PICAS_PASSWORD'])\n"
        "print(subprocess.run(['sh', '-c', 'echo $PICAS_PASSWORD'], capture_output=True, text=True).stdout)\n"
        "print(open('/proc/self/environ').read().replace('\\0', '\\n'))\n"
    )
    import subprocess

    shown = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PICAS_PASSWORD": "pw-5678"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert shown.startswith("pw-5678\npw-5678\n")
    assert shown.count("pw-5678") == 2
    assert "PICAS_PASSWORD=*******" in shown
