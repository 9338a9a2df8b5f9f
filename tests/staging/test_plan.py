"""What may be staged: the rules that keep tokens from reaching what is none of their business."""

from __future__ import annotations

import pytest

from picas.errors import InfrastructureError, InvalidInput
from picas.staging import IN, OUT, places
from picas.staging.plan import Staging
from picas.tokens import Token


def token(**fields):
    return Token("token_1", fields)


def only(staging, direction=IN, *, trusted=True, **fields):
    (item,) = staging.items(token(**fields), direction, trusted=trusted)
    return item


@pytest.mark.parametrize(
    "entry",
    [
        "https://host/data/a.fits",
        {"url": "https://host/data/a.fits"},
        [{"url": "https://host/data/a.fits", "path": "a.fits"}],
    ],
)
def test_a_field_may_be_a_url_a_file_or_a_list(entry):
    item = only(Staging(), stage_in=entry)
    assert (item.url, item.path) == ("https://host/data/a.fits", "a.fits")


@pytest.mark.parametrize("empty", [None, "", [], {}])
def test_an_empty_field_stages_nothing(empty):
    assert Staging().items(token(stage_in=empty), IN, trusted=False) == []


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../a", "a/../../b", "~/a", "..", "a\0b", "a\nb", ".", "a/", 3, ["a"]]
)
@pytest.mark.parametrize("direction", [IN, OUT])
def test_no_path_leaves_the_directory(path, direction):
    entry = {"url": "https://host/a", "path": path}
    with pytest.raises(InfrastructureError, match=f"the token's {direction} cannot be used") as caught:
        only(Staging(), direction, **{direction: entry})
    assert caught.value.of_token


@pytest.mark.parametrize(
    "url",
    [
        "-oProxyCommand=x",
        "https://host/a/../../b",
        "https://host/a/%2e%2e/b",
        "file://elsewhere/etc/passwd",
        "file:///data/../etc/passwd",
        "zip://x::file:///etc/passwd",
        "https:///a",
        "https://host\\@evil/a",
        "https://host:port/a",
        "local:///data/x?/../../etc/passwd",
        "https://host/a\r\nX: y",
        "relative/path",
        "https://host/" + "a" * 9000,
        7,
    ],
)
def test_what_is_no_url_or_reaches_for_another_place_is_refused(url):
    with pytest.raises(InfrastructureError):
        only(Staging(sites=["/data", "https://host"]), stage_in={"url": url, "path": "a"})


@pytest.mark.parametrize(
    "field", [3, {"path": "a"}, [["https://host/a"]], {"url": "https://host/a", "pth": "b"}, "https://host/"]
)
def test_a_field_that_makes_no_sense_is_the_tokens_fault(field):
    with pytest.raises(InfrastructureError) as caught:
        only(Staging(), stage_in=field)
    assert caught.value.of_token


def test_two_files_cannot_have_one_name():
    with pytest.raises(InfrastructureError, match="two files of the name a"):
        Staging().items(token(stage_in=["https://x/a", "https://y/a"]), IN, trusted=True)


# --- Who may name what ---


@pytest.mark.parametrize(
    "url", ["/etc/passwd", "file:///etc/passwd", "https://host/a", "s3://bucket/a", "memory://a"]
)
@pytest.mark.parametrize("direction", [IN, OUT])
def test_a_token_that_is_not_trusted_may_name_nothing_by_itself(url, direction):
    with pytest.raises(InfrastructureError, match="at no site") as caught:
        only(Staging(), direction, trusted=False, **{direction: {"url": url, "path": "a"}})
    assert not caught.value.of_token  # another pilot may allow it
    item = only(Staging(), direction, trusted=True, **{direction: {"url": url, "path": "a"}})
    assert not item.known


@pytest.mark.parametrize(
    ("site", "url", "fits"),
    [
        ("https://host/data", "https://host/data/a", True),
        ("https://host/data/", "https://HOST:443/data/b/a", True),
        ("davs://host", "https://host/a", True),
        ("https://host/data", "https://host/database/a", False),
        ("https://host/data", "https://host.evil/data/a", False),
        ("https://host/data", "https://host@evil/data/a", False),
        ("https://host/data", "https://host:8443/data/a", False),
        ("https://host/data", "http://host/data/a", False),
        ("https://host/data", "https://host/%64ata/a", True),
        ("https://[::1]:5000/x", "https://[::1]:5000/x/a", True),
        ("/data", "/data/a", True),
        ("/data", "file:///data//./a", True),
        ("/data", "/database/a", False),
        ("file:///data", "/data/a", True),
        ("s3://bucket/mine", "s3://bucket/mine/a", True),
        ("s3://bucket/mine", "s3://bucket2/mine/a", False),
    ],
)
def test_at_a_site_is_what_is_below_it(site, url, fits):
    staging = Staging(sites=[site])
    if fits:
        item = only(staging, trusted=False, stage_in={"url": url, "path": "a"})
        assert item.known
        assert item.within == ("/data" if "data" in site and "host" not in site else "")
    else:
        with pytest.raises(InfrastructureError, match="at no site"):
            only(staging, trusted=False, stage_in={"url": url, "path": "a"})


def test_a_trusted_token_gets_credentials_for_sites_alone():
    staging = Staging(sites=["https://host"])
    assert only(staging, stage_in="https://host/a").known
    assert not only(staging, stage_in="https://other/a").known


def test_what_the_owner_wrote_needs_no_site():
    staging = Staging(stage_in=["in.fits=https://host/data/{input}"], stage_out=["/results/{id}.h5"])
    item = only(staging, trusted=False, input="a.fits")
    assert (item.url, item.path, item.known) == ("https://host/data/a.fits", "in.fits", True)
    item = only(staging, OUT, trusted=False)
    assert (item.url, item.path, item.within) == ("/results/token_1.h5", "token_1.h5", "/results")


@pytest.mark.parametrize(
    ("rule", "value"),
    [
        ("https://host/data/{input}", "../private"),
        ("https://host/data/{input}", "%2e%2e/private"),
        ("{input}", "https://evil/a"),
        ("https://{input}/a", "evil"),
        ("https://host{input}", ".evil/a"),
        ("https://host{input}", "@evil/a"),
        ("/{input}", "etc/passwd"),
        ("/data{input}", "base/secret"),
    ],
)
def test_a_field_within_the_owners_url_leads_nowhere_else(rule, value):
    with pytest.raises(InfrastructureError):
        only(Staging(stage_in=[rule]), trusted=False, input=value)


def test_the_options_may_be_json():
    staging = Staging(stage_in=['{"url": "https://host/{input}", "path": "x", "checksum": "md5:{sum}"}'])
    item = only(staging, input="a", sum="0" * 32)
    assert (item.path, item.checksum) == ("x", "md5:" + "0" * 32)


def test_a_url_with_a_query_has_no_path_before_it():
    assert only(Staging(stage_in=["https://host/a.fits?x=1"])).path == "a.fits"


def test_several_files_go_to_a_folder():
    item = only(Staging(stage_out=["*.h5=https://host/run/"]), OUT)
    assert item.is_pattern
    with pytest.raises(InvalidInput, match="--stage-out: several files would go to one place"):
        Staging(stage_out=["*.h5=https://host/run"])
    assert only(Staging(stage_out=["a.h5=https://host/run/"]), OUT).url == "https://host/run/a.h5"


@pytest.mark.parametrize(
    "choice",
    [
        {"stage_in": ["../a=https://host/a"]},
        {"stage_in": ["https://host/"]},
        {"stage_in": ["nonsense"]},
        {"stage_in": ['{"path": "a"}']},
        {"stage_in": ['{"url": ']},
        {"stage_in": ["*.fits=https://host/"]},
        {"sites": ["nonsense"]},
        {"tries": 0},
        {"command": "cp {source}"},
        {"command": "cp {source} {target}"},
        {"command": "no-such-program {source} {destination}"},
        {"command": "cp '{source} {destination}"},
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_claimed(choice):
    with pytest.raises(InvalidInput):
        Staging(**choice)


def test_a_users_own_command_knows_other_names():
    staging = Staging(command="cp {source} {destination}", sites=["surf:bucket/"])
    assert only(staging, trusted=False, stage_in="surf:bucket/a.fits").path == "a.fits"
    for url in ("surf:bucket2/a", "surf:bucket/../a", "/etc/passwd", "--config=x"):
        with pytest.raises(InfrastructureError):
            only(staging, trusted=False, stage_in={"url": url, "path": "a"})


@pytest.mark.parametrize("checksum", ["md5", "md5:12", "crc32:00000000", "sha256:" + "g" * 64, 5])
def test_a_checksum_that_is_none_is_refused(checksum):
    with pytest.raises(InfrastructureError, match="is no checksum"):
        only(Staging(), stage_in={"url": "https://host/a", "checksum": checksum})


def test_checksums_are_written_in_several_ways():
    for written in ("ADLER32:3DA0195", "adler32:03da0195"):
        item = only(Staging(), stage_in={"url": "https://host/a", "checksum": written})
        assert item.checksum == "adler32:03da0195"
    assert only(Staging(), OUT, stage_out={"url": "https://host/a", "checksum": "MD5"}).checksum == "md5"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://ann:pw@host/a?sig=s3cret#x", "https://host/a"),
        ("s3://key:secret@bucket/a", "s3://bucket/a"),
        (":s3,access_key_id=K,secret_access_key=S:bucket/a", ":s3:bucket/a"),
        ("surf:bucket/a", "surf:bucket/a"),
        ("/data/a", "/data/a"),
    ],
)
def test_what_is_shown_of_a_url_has_no_secret(url, shown):
    assert places.shown(url) == shown
    assert "s3cret" not in places.without_secrets(f"cannot get '{url}': (403)")
