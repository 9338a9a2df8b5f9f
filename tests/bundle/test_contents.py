"""What goes into a bundle, and what is kept out of it."""

from __future__ import annotations

import os
import re
import shutil
import zipfile
from typing import TYPE_CHECKING

import pytest
from tests.bundle.node import (
    VERSION,
    content,
)

from picas._version import __version__
from picas.bundling import archive, contents, userfiles
from picas.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Shell


def test_the_same_content_makes_the_same_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    made = []
    for name in ("one.pyz", "two.pyz"):
        target = tmp_path / name
        archive.write(target, [contents.Package("small", "1", (3, 9), {"small.py": b"x = 1\n"})])
        made.append(target.read_bytes())
    assert made[0] == made[1]


def test_licences_go_where_the_packages_go(bundle: Path) -> None:
    names = "\n".join(content(bundle))
    for package in ("click", "platformdirs", "urllib3", "picas"):
        assert re.search(rf"^{package}-[^/]*\.dist-info/(licenses/)?LICENSE", names, re.MULTILINE), package


SECRETS = {
    "config.toml": 'pool = "https://example.org/pool"\n[couchdb]\nusername = "me"\npassword = "hunter2"\n',
    "other.toml": 'pool = "https://me:hunter2@example.org/pool"\n',
    "conf.yml": "host_url: https://example.org\nencrypted_password: gAAAAABl\n",
    "key.dat": "6hLwPzXnQ3N7b0qIuYx9nRUJx0lGEr2JkQq0nq4m9kY=\n",
    "me.pem": "-----BEGIN PRIVATE KEY-----\nMC4CAQ\n-----END PRIVATE KEY-----\n",
}


@pytest.mark.parametrize("name", SECRETS)
def test_files_with_secrets_are_refused(name: str, picas: Shell) -> None:
    picas.path("folder").mkdir()
    picas.write(f"folder/{name}", SECRETS[name])
    answer = picas.here("bundle", "folder")
    assert answer.code == 2
    assert f"{picas.path('folder') / name} holds a " in answer.err
    assert "hunter2" not in answer.err
    assert not picas.path("pilot.pyz").exists()


def test_files_that_only_speak_of_secrets_are_taken(tmp_path: Path) -> None:
    (tmp_path / "prog.py").write_text("password = input()\n", "utf-8")
    (tmp_path / "program").write_text("#!/bin/sh\npassword=$1\n", "utf-8")
    (tmp_path / "public.pem").write_text("-----BEGIN CERTIFICATE-----\n", "utf-8")
    (tmp_path / "settings.toml").write_text('pool = "https://example.org/pool"\n# password = none\n', "utf-8")
    assert [file.name for file in userfiles.read(sorted(tmp_path.iterdir()))] == [
        "prog.py",
        "program",
        "public.pem",
        "settings.toml",
    ]


def test_a_login_in_the_url_is_refused(picas: Shell) -> None:
    answer = picas.here("bundle", "--pool", "https://me:pass@example.org/pool")
    assert answer.code == 2
    assert "a bundle holds no login" in answer.err


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "cannot be read: No such file or directory"),
        (os.mkfifo, "is no file"),
        (lambda path: path.symlink_to(path.parent), "is no file"),
    ],
)
def test_what_is_no_file_is_refused(make: Callable[[Path], None], message: str, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    make(folder / "it")
    given = folder if (folder / "it").is_symlink() or (folder / "it").exists() else folder / "it"
    with pytest.raises(InvalidInput, match=message):
        userfiles.read([given])


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "fit.py").write_text("", "utf-8")
    with pytest.raises(InvalidInput, match=r"two files would be fit\.py"):
        userfiles.read([tmp_path / "one" / "fit.py", tmp_path / "two" / "fit.py"])


def test_what_python_made_itself_is_left_out(tmp_path: Path) -> None:
    for name in ("pack/__pycache__", "pack/.git", "pack/sub"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "a.py").write_text("", "utf-8")
    assert [file.name for file in userfiles.read([tmp_path / "pack"])] == ["pack/sub/a.py"]


def test_a_package_that_is_not_pure_python_is_refused() -> None:
    with pytest.raises(
        InvalidInput, match=r"cryptography is not pure Python: cryptography/.*\.so is made for"
    ):
        contents.gather(["cryptography"], None)


def test_a_package_that_is_not_installed_is_named() -> None:
    with pytest.raises(InvalidInput) as caught:
        contents.gather(["no-such-package-of-ours"], None)
    assert caught.value.message == "the package no-such-package-of-ours is not installed"


def test_other_packages_go_in_with_what_they_need() -> None:
    found = {package.name.lower(): package for package in contents.gather(["pexpect"], None)}
    assert {"pexpect", "ptyprocess", "picas", "click"} <= set(found)
    assert "ptyprocess/ptyprocess.py" in found["ptyprocess"].files


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("click<9,>=8.1", contents.Requirement("click", "<9,>=8.1")),
        ("click (<9,>=8.1)", contents.Requirement("click", "<9,>=8.1")),
        ("tomli>=2; python_version < '3.11'", contents.Requirement("tomli", ">=2", (3, 11))),
        ('tomli>=2 ; (python_full_version < "3.11")', contents.Requirement("tomli", ">=2", (3, 11))),
        ("x; python_version <= '3.10'", contents.Requirement("x", "", (3, 11))),
        ("colorama; platform_system == 'Windows'", contents.Requirement("colorama", "", certain=False)),
        ("brotli>=1; (platform_python_implementation == 'CPython') and extra == 'brotli'", None),
        ("a-b.c[x,y]~=1.0", contents.Requirement("a-b.c", "~=1.0")),
    ],
)
def test_requirements_are_read(text: str, expected: contents.Requirement | None) -> None:
    assert contents.Requirement.parse(text) == expected


def test_packages_for_an_older_python_are_fetched(picas: Shell) -> None:
    if VERSION == (3, 9):
        pytest.skip("what is installed runs on the oldest Python")
    wheels = picas.path("wheels")
    wheels.mkdir()
    for name, versions in (
        ("click", ("8.1.1", "8.4")),
        ("platformdirs", ("4.1",)),
        ("urllib3", ("2.1",)),
        ("tomli", ("2.0",)),
    ):
        for version in versions:
            wheel(wheels, name, version, ">=3.9" if version != "8.4" else ">=3.10")
    own = {
        "PIP_NO_INDEX": "1",
        "PYTHONWARNINGS": "default",  # pip is not ours
        "PIP_FIND_LINKS": str(wheels),
        "PIP_CONFIG_FILE": os.devnull,
        "PATH": "/usr/bin:/bin",
    }
    answer = picas("bundle", "--python", "3.9", "--json", **own)
    assert (answer.code, answer.err) == (0, "")
    assert answer.json["oldest"] == "3.9"
    versions = {
        "click": "8.1.1",
        "platformdirs": "4.1",
        "urllib3": "2.1",
        "tomli": "2.0",
        "picas": __version__,
    }
    assert answer.json["packages"] == versions
    assert content(picas.path("pilot.pyz"))["click/__init__.py"] == b"version = '8.1.1'\n"
    shutil.rmtree(wheels)
    answer = picas("bundle", "--python", "3.9", **own)
    assert answer.code == 2
    assert "packages that run on Python 3.9 cannot be got" in answer.err
    assert "No matching distribution found" in answer.err


def wheel(folder: Path, name: str, version: str, python: str) -> None:
    """A wheel as an index has it."""
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nRequires-Python: {python}\n"
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as opened:
        opened.writestr(f"{name}/__init__.py", f"version = '{version}'\n")
        opened.writestr(f"{info}/METADATA", metadata)
        opened.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        opened.writestr(
            f"{info}/RECORD", f"{name}/__init__.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n"
        )


@pytest.mark.parametrize("written", ["2.7", "3.8", "3", "new"])
def test_versions_of_python_that_cannot_be_are_refused(written: str, picas: Shell) -> None:
    answer = picas.here("bundle", "--python", written)
    assert answer.code == 2
    assert "is no version of Python that picas runs on" in answer.err


def test_a_bundle_that_cannot_be_written_leaves_the_old_one(picas: Shell) -> None:
    answer = picas.here("bundle", "-o", str(picas.path("no") / "pilot.pyz"))
    assert answer.code == 1
    assert "No such file or directory" in answer.err
