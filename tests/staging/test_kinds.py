"""Files from and to file systems, fsspec's file systems, and by a user's own command."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from contextlib import contextmanager

import pytest

from picas.staging.local import Local
from picas.staging.plan import Item
from picas.staging.remote import Remote
from picas.staging.tool import Tool
from picas.staging.transfer import Means, TransferError

DATA = os.urandom(200_000)


class Carried:
    def __init__(self, path, carrier, *, foreign=False):
        self.path = path
        self.said = []
        self._means = Means(lambda place: carrier, 3, self.said.append, (0.0, 0.0), foreign)

    def fetch(self, url, **item):
        part = self.path / "part"
        self._means.fetch(Item(str(url), "here", **item), part)
        return part.read_bytes()

    def bring(self, data, url, **item):
        source = self.path / "made"
        source.write_bytes(data)
        return self._means.deliver(Item(str(url), "made", **item), str(url), source)


@pytest.fixture
def local(tmp_path):
    place = tmp_path / "scratch"
    place.mkdir()
    return Carried(place, Local())


# --- Files ---


def test_files_are_copied(local, tmp_path):
    noted = local.bring(DATA, f"file://{tmp_path}/a%20b/c/out")
    assert (tmp_path / "a b/c/out").read_bytes() == DATA
    assert noted["checksum"] == "sha256:" + hashlib.sha256(DATA).hexdigest()
    assert local.fetch(tmp_path / "a b/c/out", checksum=noted["checksum"]) == DATA
    assert os.listdir(tmp_path / "a b/c") == ["out"]


def test_a_file_of_another_checksum_is_not_taken(local, tmp_path):
    (tmp_path / "a").write_bytes(DATA)
    with pytest.raises(TransferError, match="its checksum is adler32:"):
        local.fetch(tmp_path / "a", checksum="adler32:00000001")
    assert len(local.said) == 2


@pytest.mark.parametrize(("name", "said"), [("none", "No such file"), (".", "is no file")])
def test_what_is_no_file_is_told_at_once(local, tmp_path, name, said):
    with pytest.raises(TransferError, match=said):
        local.fetch(f"{tmp_path}/{name}")
    assert not local.said


def test_a_link_does_not_lead_out_of_a_site(local, tmp_path):
    site = tmp_path / "site"
    site.mkdir()
    (tmp_path / "secret").write_bytes(DATA)
    (site / "link").symlink_to(tmp_path / "secret")
    (site / "way").symlink_to(tmp_path)
    for name in ("link", "way/secret"):
        with pytest.raises(TransferError, match="leads out of"):
            local.fetch(site / name, within=str(site))
    with pytest.raises(TransferError, match="leads out of"):
        local.bring(b"x", site / "way/new/file", within=str(site))
    assert not (tmp_path / "new").exists()
    local.bring(b"x", site / "deep/er/file", within=str(site))
    local.bring(b"y", site / "link", within=str(site))  # what is there is replaced, not followed
    assert (tmp_path / "secret").read_bytes() == DATA
    assert local.fetch(site / "deep/er/file", within=str(site)) == b"x"


@contextmanager
def small_disk(place):
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("only root on Linux may mount a file system")
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    if subprocess.run(command, check=False, stderr=subprocess.DEVNULL).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_a_full_disk_is_told_before_it_is_full(tmp_path, carriage, site):
    big = os.urandom(3 << 20)
    (tmp_path / "big").write_bytes(big)
    site.files["/big"] = big
    with small_disk(tmp_path / "small") as small:
        with pytest.raises(TransferError, match=f"it needs 3,145,728 bytes, and the disk of {small} has"):
            Carried(small, Local()).fetch(tmp_path / "big")
        carriage.path = small
        with pytest.raises(TransferError, match="it needs 3,145,728 bytes"):
            carriage.fetch(f"{site.url}/big")
        assert len(site.asked) == 1
        with pytest.raises(TransferError, match=r"has .* left"):
            Carried(tmp_path, Local()).bring(big, small / "out")
        assert os.listdir(small) == []


def test_a_disk_that_fills_up_meanwhile_is_told_too(tmp_path, carriage, site, monkeypatch):
    site.files["/big"] = os.urandom(3 << 20)
    monkeypatch.setattr("picas.staging.http.check_room", lambda folder, size: None)
    with small_disk(tmp_path / "small") as small:
        carriage.path = small
        with pytest.raises(TransferError, match="No space left"):
            carriage.fetch(f"{site.url}/big")
        assert len(site.asked) == 1


# --- fsspec ---


@pytest.fixture
def remote(tmp_path):
    return Carried(tmp_path, Remote())


@pytest.fixture
def memory():
    fsspec = pytest.importorskip("fsspec")
    system = fsspec.filesystem("memory")
    yield system
    system.store.clear()
    system.pseudo_dirs[:] = [""]


def test_files_are_carried_by_fsspec(remote, memory):
    noted = remote.bring(DATA, "memory://bucket/run 1/out")
    assert memory.cat("/bucket/run 1/out") == DATA
    assert noted["size"] == len(DATA)
    assert remote.fetch("memory://bucket/run 1/out", checksum=noted["checksum"]) == DATA


def test_files_are_carried_by_fsspecs_own_local_file_system(remote, tmp_path):
    pytest.importorskip("fsspec")
    remote.bring(DATA, f"local://{tmp_path}/deep/out")
    assert (tmp_path / "deep/out").read_bytes() == DATA
    assert remote.fetch(f"local://{tmp_path}/deep/out") == DATA


def test_what_a_file_system_says_is_told_without_secrets(remote, memory, monkeypatch):
    with pytest.raises(TransferError, match="no such file"):
        remote.fetch("memory://bucket/none")
    assert not remote.said

    def broken(*args, **kwargs):
        raise RuntimeError("503 for https://host/a?X-Amz-Signature=s3cret")

    monkeypatch.setattr(type(memory), "put_file", broken)
    with pytest.raises(
        TransferError, match=r"failed 3 times, at last: RuntimeError: 503 for https://host/a$"
    ):
        remote.bring(DATA, "memory://bucket/out")


def test_half_a_file_is_found_by_its_size(remote, memory, monkeypatch):
    whole = type(memory).put_file

    def half(self, lpath, rpath, **kwargs):
        whole(self, lpath, rpath, **kwargs)
        if not remote.said:
            self.store[rpath].truncate(10)

    monkeypatch.setattr(type(memory), "put_file", half)
    remote.bring(DATA, "memory://bucket/out")
    assert "10 of its 200,000 bytes are there" in remote.said[0]
    assert memory.cat("/bucket/out") == DATA


@pytest.fixture
def breaking(memory, monkeypatch):
    """A file of which only a part comes at the first try; it may be another one at the second."""
    memory.pipe("/bucket/a", DATA)
    whole, begun = type(memory).get_file, []

    def half(self, rpath, lpath, **kwargs):
        whole(self, rpath, lpath, **kwargs)
        begun.append(rpath)
        if len(begun) == 1:
            os.truncate(lpath, 150_000)
            raise ConnectionError("it broke off")

    monkeypatch.setattr(type(memory), "get_file", half)
    return begun


def test_a_download_that_broke_off_goes_on(remote, memory, breaking):
    assert remote.fetch("memory://bucket/a") == DATA
    assert breaking == ["/bucket/a"]
    assert "it broke off" in remote.said[0]


def test_the_rest_of_another_file_is_not_taken(remote, memory, breaking):
    other = os.urandom(200_000)
    remote._means.say = lambda _: memory.pipe("/bucket/a", other)
    assert remote.fetch("memory://bucket/a") == other
    assert breaking == ["/bucket/a"] * 2


@pytest.mark.parametrize(
    ("url", "advice"), [("s3://b/a", "picas[s3]"), ("root://h//a", "picas[xrootd]"), ("gs://b/a", "gcsfs")]
)
def test_a_missing_package_is_named(remote, url, advice):
    pytest.importorskip("fsspec")
    with pytest.raises(TransferError, match="is not installed") as caught:
        remote.fetch(url)
    assert advice in caught.value.advice
    assert not remote.said


def test_without_fsspec_its_extra_is_named(remote, monkeypatch):
    monkeypatch.setitem(sys.modules, "fsspec", None)
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(TransferError) as caught:
        remote.fetch("sftp://host/a")
    assert caught.value.advice == "pip install 'picas[data]'"


def test_a_scheme_that_nobody_knows_is_told(remote):
    pytest.importorskip("fsspec")
    with pytest.raises(TransferError, match="nobody here knows what nonsense:// is"):
        remote.fetch("nonsense://host/a")


# --- A user's own command ---


def script(path, text):
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_a_command_that_fails_twice_is_run_a_third_time(tmp_path):
    source = tmp_path / "source"
    source.write_bytes(DATA)
    flaky = script(
        tmp_path / "flaky",
        'echo x >> "$0.count"; [ "$(wc -l < "$0.count")" -ge 3 ] || { echo "quota of https://u:pw@h/a?k=1" >&2; exit 7; }\n'
        '[ ! -e "$2" ] || exit 9; cp "$1" "$2"',
    )
    carried = Carried(tmp_path, Tool([flaky, "{source}", "{destination}"]), foreign=True)
    assert carried.fetch(source) == DATA
    assert len(carried.said) == 2
    assert "flaky failed (exit code 7): quota of https://h/a; again in" in carried.said[0]


def test_a_command_gets_urls_where_it_wants_them(tmp_path):
    note = script(tmp_path / "note", 'echo "$@" > "$0.args"; cp "${1#file://}" "$2"')
    carried = Carried(
        tmp_path, Tool([note, "{source_url}", str(tmp_path / "there"), "{destination}"]), foreign=True
    )
    carried.bring(DATA, "surf:bucket/a b; rm -rf x")
    assert (tmp_path / "there").read_bytes() == DATA
    said = (tmp_path / "note.args").read_text()
    assert said == f"file://{tmp_path}/made {tmp_path}/there surf:bucket/a b; rm -rf x\n"


def test_a_command_that_says_all_is_well_and_brings_nothing_is_not_believed(tmp_path):
    carried = Carried(tmp_path, Tool(["true", "{source}", "{destination}"]), foreign=True)
    with pytest.raises(TransferError, match="nothing came of it"):
        carried.fetch("surf:a")


def test_a_command_that_never_works_is_given_up(tmp_path):
    carried = Carried(tmp_path, Tool(["/bin/false", "{source}", "{destination}"]), foreign=True)
    with pytest.raises(TransferError, match=r"failed 3 times, at last: /bin/false failed \(exit code 1\)"):
        carried.bring(DATA, "surf:a")
