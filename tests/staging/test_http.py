"""Files from and to web servers, also on their bad days."""

from __future__ import annotations

import base64
import hashlib
import random
import ssl
import subprocess

import pytest
from tests.couchdb.certificates import has_openssl, make_certificate
from tests.web import Site, serve

from picas.staging import sums
from picas.staging.transfer import TransferError

DATA = random.Random(1).randbytes(300_000)
SHA = "sha256:" + hashlib.sha256(DATA).hexdigest()


def test_a_file_comes_as_it_is(site, carriage):
    site.files["/a b.fits"] = DATA
    assert carriage.fetch(f"{site.url}/a%20b.fits") == DATA
    assert not carriage.said


def test_webdav_has_names_of_its_own(site, carriage):
    site.files["/a"] = DATA
    assert carriage.fetch(site.url.replace("http://", "dav://") + "/a") == DATA


@pytest.mark.parametrize("checksum", ["", SHA])
def test_a_download_that_breaks_off_goes_on_where_it_was(site, carriage, checksum):
    site.files["/a"] = DATA
    site.fail("GET", "/a", {"cut": 100_000}, {"cut": 120_000})
    assert carriage.fetch(f"{site.url}/a", checksum=checksum) == DATA
    begun = [int(asked.headers.get("Range", "bytes=0-")[6:-1]) for asked in site.asked]
    assert begun[0] == 0 < begun[1] < begun[2]
    assert "the connection broke off" in carriage.said[0]


def test_tries_that_brought_a_file_on_do_not_count(site, carriage):
    site.files["/a"] = DATA
    site.fail("GET", "/a", *[{"cut": 70_000}] * 4)
    assert carriage.fetch(f"{site.url}/a", tries=2) == DATA


def test_without_ranges_it_begins_again(site, carriage):
    site.files["/a"] = DATA
    site.ranges = False
    site.fail("GET", "/a", {"cut": 100_000})
    assert carriage.fetch(f"{site.url}/a", checksum=SHA) == DATA


def test_what_may_be_another_file_by_now_is_not_gone_on_with(site, carriage):
    site.files["/a"] = DATA
    site.marks = False
    site.fail("GET", "/a", {"cut": 100_000})
    assert carriage.fetch(f"{site.url}/a") == DATA
    assert not any("Range" in asked.headers for asked in site.asked)


def test_a_file_that_changed_meanwhile_is_fetched_anew(site, carriage):
    old = DATA[::-1]
    site.files["/a"] = DATA
    site.fail("GET", "/a", {"cut": 100_000, "data": old})
    assert carriage.fetch(f"{site.url}/a") == DATA


def test_another_part_than_was_asked_for_is_not_taken(site, carriage):
    site.files["/a"] = DATA
    site.fail("GET", "/a", {"cut": 100_000}, {"shift": 10})
    assert carriage.fetch(f"{site.url}/a") == DATA


def test_a_wrong_file_is_fetched_again_and_then_given_up(site, carriage):
    site.files["/a"] = DATA
    site.fail("GET", "/a", {"data": b"something else"})
    assert carriage.fetch(f"{site.url}/a", checksum=SHA) == DATA
    site.files["/a"] = b"something else"
    with pytest.raises(TransferError, match=f"its checksum is sha256:.*, not {SHA}"):
        carriage.fetch(f"{site.url}/a", checksum=SHA, tries=2)


def test_what_the_server_says_of_a_checksum_counts_where_nobody_else_knows_it(site, carriage):
    site.files["/a"] = DATA
    site.fail("GET", "/a", {"digest": "adler32=00000001"})
    assert carriage.fetch(f"{site.url}/a") == DATA
    assert "its checksum is adler32:" in carriage.said[0]


@pytest.mark.parametrize("status", [429, 500, 503])
def test_what_passes_is_waited_for(site, carriage, status):
    site.files["/a"] = DATA
    site.fail("GET", "/a", {"status": status, "headers": {"Retry_After": "0"}}, {"status": status})
    assert carriage.fetch(f"{site.url}/a") == DATA
    assert len(site.asked) == 3


@pytest.mark.parametrize(("status", "said"), [(404, "no such file"), (403, "forbids"), (401, "who asks")])
def test_what_does_not_pass_is_told_at_once(site, carriage, status, said):
    site.fail("GET", "/a", {"status": status})
    with pytest.raises(TransferError, match=said):
        carriage.fetch(f"{site.url}/a")
    assert len(site.asked) == 1


def test_a_server_that_is_not_there_is_tried_as_often_as_was_said(carriage):
    with pytest.raises(TransferError, match="failed 3 times, at last: nobody answers there"):
        carriage.fetch("http://127.0.0.1:9/a", tries=3)
    assert len(carriage.said) == 2


def test_redirects_are_followed_and_credentials_are_not(site, elsewhere, carriage):
    carriage.environ["BEARER_TOKEN"] = "s3cret"
    site.login = "Bearer s3cret"
    site.files["/a"] = b""
    elsewhere.files["/b"] = DATA
    site.fail("GET", "/a", {"status": 307, "headers": {"Location": f"{elsewhere.url}/b?authz=own"}})
    assert carriage.fetch(f"{site.url}/a", known=True) == DATA
    assert site.asked[0].headers["Authorization"] == "Bearer s3cret"
    assert "Authorization" not in elsewhere.asked[0].headers


def test_a_redirect_leads_to_no_file_of_this_machine(site, carriage):
    site.fail("GET", "/a", {"status": 302, "headers": {"Location": "file:///etc/hostname"}})
    with pytest.raises(TransferError, match="no web address"):
        carriage.fetch(f"{site.url}/a", tries=1)


def test_redirects_in_a_circle_end(site, carriage):
    site.fail("GET", "/a", *[{"status": 302, "headers": {"Location": "/a"}}] * 20)
    with pytest.raises(TransferError, match="on and on"):
        carriage.fetch(f"{site.url}/a", tries=1)


def test_credentials_are_for_known_places_alone(site, carriage, tmp_path):
    (tmp_path / "token").write_text("s3cret\n")
    carriage.environ["BEARER_TOKEN_FILE"] = str(tmp_path / "token")
    site.login = "Bearer s3cret"
    site.files["/a"] = DATA
    assert carriage.fetch(f"{site.url}/a", known=True) == DATA
    with pytest.raises(TransferError, match="who asks") as caught:
        carriage.fetch(f"{site.url}/a", known=False)
    assert "--stage-site" in caught.value.advice
    assert "Authorization" not in site.asked[-1].headers


def test_a_password_is_found_where_other_tools_find_it(site, carriage, tmp_path):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login ann password pw\n")
    netrc.chmod(0o600)
    site.login = "Basic YW5uOnB3"
    site.files["/a"] = DATA
    assert carriage.fetch(f"{site.url}/a", known=True) == DATA
    assert carriage.fetch(site.url.replace("//", "//ann:pw@") + "/a") == DATA


def test_nothing_that_is_said_has_a_secret_in_it(carriage):
    with pytest.raises(TransferError) as caught:
        carriage.fetch("http://ann:pw@127.0.0.1:9/a?X-Amz-Signature=s3cret", tries=2)
    assert caught.value.message.startswith("fetching http://127.0.0.1:9/a failed")
    assert not any(secret in str(carriage.said) + str(caught.value) for secret in ("pw@", "s3cret"))


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    if not has_openssl():
        pytest.skip("makes certificates with the openssl command")
    return make_certificate(tmp_path_factory.mktemp("tls") / "own")


@pytest.fixture
def secure(certificate):
    """A server that is reached by https."""
    site = Site(files={"/a": DATA})
    server = serve(site, certificate.context())
    yield site
    server.shutdown()
    server.server_close()


def test_a_server_that_nobody_vouches_for_is_not_believed(secure, carriage):
    with pytest.raises(TransferError, match="the secure connection failed") as caught:
        carriage.fetch(f"{secure.url}/a")
    assert not carriage.said
    assert "SSL_CERT_FILE" in caught.value.advice


@pytest.mark.parametrize("scheme", ["https", "davs"])
def test_authorities_are_those_that_other_tools_trust(secure, carriage, certificate, monkeypatch, scheme):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.trust))
    assert carriage.fetch(secure.url.replace("https", scheme) + "/a") == DATA


def test_the_authorities_of_the_grid_are_in_a_folder(secure, carriage, certificate, tmp_path):
    folder = tmp_path / "authorities"
    folder.mkdir()
    command = ["openssl", "x509", "-hash", "-noout", "-in", str(certificate.trust)]
    name = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    (folder / f"{name}.0").write_bytes(certificate.trust.read_bytes())
    carriage.environ["X509_CERT_DIR"] = str(folder)
    assert carriage.fetch(f"{secure.url}/a") == DATA


def test_a_proxy_certificate_is_shown_to_known_places_alone(certificate, carriage, tmp_path, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.trust))
    proxy = tmp_path / "x509up"
    proxy.write_bytes(certificate.trust.read_bytes() + (certificate.folder / "key.pem").read_bytes())
    carriage.environ["X509_USER_PROXY"] = str(proxy)
    context = certificate.context()
    context.load_verify_locations(certificate.trust)
    context.verify_mode = ssl.CERT_REQUIRED
    site = Site(files={"/a": DATA})
    server = serve(site, context)
    try:
        assert carriage.fetch(f"{site.url}/a", known=True) == DATA
        with pytest.raises(TransferError):
            carriage.fetch(f"{site.url}/a", known=False, tries=1)
        assert len(site.asked) == 1
    finally:
        server.shutdown()
        server.server_close()


def test_a_proxy_certificate_that_is_gone_is_told(secure, carriage):
    carriage.environ["X509_USER_PROXY"] = "/no/such/x509up_u1000"
    with pytest.raises(TransferError, match="X509_USER_PROXY names cannot be used"):
        carriage.fetch(f"{secure.url}/a", known=True)


def test_a_proxy_on_the_way_is_used(site, carriage, monkeypatch):
    monkeypatch.setenv("http_proxy", site.url)
    site.files["/a"] = DATA
    assert carriage.fetch("http://storage.invalid/a") == DATA
    assert site.asked[0].path == "http://storage.invalid/a"


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        ({"Digest": "adler32=1a2b3c"}, {"adler32": "adler32:001a2b3c"}),
        (
            {"Digest": "md5=kAFQmDzST7DWlj99KOF/cg==, unixsum=3"},
            {"md5": "md5:900150983cd24fb0d6963f7d28e17f72"},
        ),
        ({"Repr-Digest": "sha-256=:not base64:"}, {}),
        (
            {"Repr-Digest": f"sha-256=:{base64.b64encode(bytes(32)).decode()}:"},
            {"sha256": "sha256:" + "0" * 64},
        ),
        ({}, {}),
    ],
)
def test_servers_tell_checksums_in_several_ways(headers, told):
    assert sums.told_by(headers) == told


# --- Bringing away ---


def test_a_file_is_brought_and_noted_without_secrets(site, carriage):
    noted = carriage.bring(DATA, f"{site.url}/out.h5?sig=s3cret")
    assert site.files["/out.h5"] == DATA
    assert noted == {"url": f"{site.url}/out.h5", "size": len(DATA), "checksum": SHA}


def test_folders_are_made_where_the_server_wants_them(site, carriage):
    carriage.bring(DATA, f"{site.url}/run1/part%202/out.h5")
    assert site.files["/run1/part 2/out.h5"] == DATA
    assert [asked.path for asked in site.of("MKCOL")] == ["/run1/", "/run1/part%202/"]


@pytest.mark.parametrize("fault", [{"cut": 1000}, {"status": 503}, {"keep": 1000}])
def test_what_did_not_get_there_whole_is_brought_again(site, carriage, fault):
    site.fail("PUT", "/out", fault)
    carriage.bring(DATA, f"{site.url}/out")
    assert site.files["/out"] == DATA
    assert len(site.of("PUT")) == 2


def test_damage_on_the_way_is_found_by_the_servers_checksum(site, carriage):
    site.fail("HEAD", "/out", {"digest": "adler32=00000001"})
    carriage.bring(DATA, f"{site.url}/out")
    assert "its checksum there is adler32:00000001" in carriage.said[0]


def test_a_file_that_is_there_already_and_the_same_is_as_good(site, carriage):
    site.files["/out"] = DATA
    site.replaces = False
    assert carriage.bring(DATA, f"{site.url}/out")["checksum"] == SHA
    site.files["/out"] = DATA[::-1]
    with pytest.raises(TransferError, match="forbids it"):
        carriage.bring(DATA, f"{site.url}/out")


def test_a_server_without_room_is_told_at_once(site, carriage):
    site.fail("PUT", "/out", {"status": 507})
    with pytest.raises(TransferError, match="no room"):
        carriage.bring(DATA, f"{site.url}/out")
    assert len(site.of("PUT")) == 1


def test_the_checksum_is_of_the_kind_that_was_asked_for(site, carriage):
    noted = carriage.bring(b"abc", f"{site.url}/out", checksum="adler32")
    assert noted["checksum"] == "adler32:024d0127"
    assert carriage.bring(b"abc", f"{site.url}/md", checksum="md5")["checksum"].startswith("md5:900150983cd2")


def test_a_file_that_is_not_what_it_should_be_is_not_brought(site, carriage):
    with pytest.raises(TransferError, match="the file's checksum is"):
        carriage.bring(b"abc", f"{site.url}/out", checksum=SHA)
    assert not site.of("PUT")
