"""The fractals example alone: the C program, and the script that a pilot runs for each token."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import zlib
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "examples" / "fractals"
# Small and quick; each test changes what it is about.
ARGUMENTS = {"-q": "0.5", "-d": "48", "-m": "4"}

pytestmark = pytest.mark.skipif(
    shutil.which("cc") is None and "CI" not in os.environ, reason="needs a C compiler, named cc"
)


def run(command, **options):
    return subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, timeout=60, check=False, **options
    )


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    built = tmp_path_factory.mktemp("build") / "fractals"
    strict = ["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]
    result = run(["cc", *strict, "-O2", "-o", built, FOLDER / "fractals.c", "-lm"])
    assert result.returncode == 0, result.stderr
    return built


def draw(program, out, **changes):
    """Run the program; `q="0.3"` changes an argument, `q=None` leaves it out."""
    arguments = {**ARGUMENTS, **{f"-{name}": value for name, value in changes.items()}}
    words = [word for name, value in arguments.items() if value is not None for word in (name, value)]
    return run([program, "-o", out, *words])


def read_ppm(path):
    """Return the width, the height and the RGB bytes of a picture."""
    magic, size, depth, pixels = path.read_bytes().split(b"\n", 3)
    width, height = map(int, size.split())
    assert (magic, depth) == (b"P6", b"255")
    assert len(pixels) == 3 * width * height
    return width, height, pixels


def read_png(path):
    """Return the same from a PNG; every length and checksum in it is checked on the way."""
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, at = [], 8
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        body = data[at + 8 : at + 8 + length]
        (checksum,) = struct.unpack(">I", data[at + 8 + length : at + 12 + length])
        assert checksum == zlib.crc32(kind + body)
        chunks.append((kind, body))
        at += 12 + length
    assert at == len(data)
    kinds = [kind for kind, _ in chunks]
    assert (kinds[0], set(kinds[1:-1]), kinds[-1]) == (b"IHDR", {b"IDAT"}, b"IEND")

    width, height, *rest = struct.unpack(">IIBBBBB", chunks[0][1])
    assert rest == [8, 2, 0, 0, 0]  # 8 bits, RGB, deflate, standard filters, not interlaced
    # decompressobj, not decompress: it also tells whether anything follows the stream
    stream = zlib.decompressobj()
    rows = stream.decompress(b"".join(body for kind, body in chunks if kind == b"IDAT"))
    assert stream.eof
    assert stream.unused_data == b""
    step = 1 + 3 * width
    assert len(rows) == step * height
    assert {rows[y * step] for y in range(height)} == {0}  # no row is filtered
    return width, height, b"".join(rows[y * step + 1 : (y + 1) * step] for y in range(height))


def test_the_png_and_the_ppm_hold_the_same_picture(program, tmp_path):
    for name in ("a.png", "a.ppm"):
        result = draw(program, tmp_path / name)
        assert (result.returncode, result.stderr) == (0, "")
    ppm = read_ppm(tmp_path / "a.ppm")
    assert ppm[:2] == (48, 48)
    assert read_png(tmp_path / "a.png") == ppm


def test_the_picture_is_colourful_on_a_dark_ground(program, tmp_path):
    draw(program, tmp_path / "a.ppm", d="128", m="6")
    _, _, pixels = read_ppm(tmp_path / "a.ppm")
    colours = {pixels[i : i + 3] for i in range(0, len(pixels), 3)}
    assert len(colours) > 1000
    assert max(max(colour) - min(colour) for colour in colours) > 150
    assert max(pixels[:3]) < 20


@pytest.mark.parametrize("side", [16, 17, 1000])
def test_every_size_in_the_range_makes_a_whole_png(program, tmp_path, side):
    assert draw(program, tmp_path / "a.png", d=str(side), m="1").returncode == 0
    assert read_png(tmp_path / "a.png")[:2] == (side, side)


def test_the_same_arguments_draw_the_same_bytes_and_others_do_not(program, tmp_path):
    pictures = []
    for number, q in enumerate(["0.5", "0.5", "0.51"]):
        draw(program, tmp_path / f"{number}.png", q=q)
        pictures.append((tmp_path / f"{number}.png").read_bytes())
    assert pictures[0] == pictures[1]
    assert pictures[0] != pictures[2]


@pytest.mark.parametrize("m", [0, 1, 2, 5])
def test_each_level_has_five_times_the_branches_of_the_one_before(program, tmp_path, m):
    result = draw(program, tmp_path / "a.png", m=str(m))
    branches = 6 * sum(5**level for level in range(m + 1))
    assert result.stdout == f"{tmp_path / 'a.png'}: 48 x 48 pixels, {branches} branches\n"


def test_the_time_it_takes_grows_with_m(program, tmp_path):
    def cpu_seconds(m):
        before = os.times()
        assert draw(program, tmp_path / "a.ppm", m=m).returncode == 0
        after = os.times()
        return after.children_user - before.children_user

    # 625 times the branches: even a busy machine tells these apart.
    assert cpu_seconds("8") > 2 * cpu_seconds("4")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"q": "1.5"}, "-q: '1.5' is not a number from 0.1 to 0.9"),
        ({"q": "nan"}, "-q: 'nan' is not a number"),
        ({"q": "0.5x"}, "-q: '0.5x' is not a number"),
        ({"q": ""}, "-q: '' is not a number"),
        ({"q": None}, "-q is missing"),
        ({"d": "15"}, "-d: '15' is not a whole number from 16 to 4096"),
        ({"d": "4097"}, "-d: '4097' is not a whole number from 16 to 4096"),
        ({"d": "99999999999999999999"}, "is not a whole number from 16 to 4096"),
        ({"d": "64.5"}, "-d: '64.5' is not a whole number"),
        ({"m": "-1"}, "-m: '-1' is not a whole number from 0 to 14"),
        ({"m": "15"}, "-m: '15' is not a whole number from 0 to 14"),
        ({"m": "deep"}, "-m: 'deep' is not a whole number"),
        ({"z": "1"}, "there is no option '-z'"),
    ],
)
def test_a_wrong_argument_is_named_and_nothing_is_written(program, tmp_path, changes, message):
    result = draw(program, tmp_path / "a.png", **changes)
    assert result.returncode == 2
    assert message in result.stderr
    assert "fractals -h" in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "-o is missing"),
        (["-o"], "-o needs a value"),
        (["-o", "a.gif", "-q", ".5", "-d", "48", "-m", "1"], "'a.gif' ends with neither .png nor .ppm"),
        (["-o", ".png", "-q", ".5", "-d", "48", "-m", "1"], "'.png' ends with neither"),
        (["-q", "0.5", "-q", "0.6"], "-q is given twice"),
        (["-q", "0.5", "more"], "'more' is one argument too many"),
    ],
)
def test_a_wrong_command_line_is_refused(program, tmp_path, words, message):
    result = run([program, *words], cwd=tmp_path)
    assert result.returncode == 2
    assert message in result.stderr


def test_help_goes_to_standard_output(program):
    result = run([program, "-h"])
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("usage: fractals -o OUT -q Q -d D -m M\n")


def test_a_folder_that_is_not_there_is_an_error(program, tmp_path):
    result = draw(program, tmp_path / "none" / "a.png")
    assert result.returncode == 1
    assert "No such file or directory" in result.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("side", ["16", "256"])
def test_a_full_disk_is_an_error(program, tmp_path, side):
    # The small picture fits the stream's buffer, so only closing it shows the error.
    (tmp_path / "a.png").symlink_to("/dev/full")
    result = draw(program, tmp_path / "a.png", d=side)
    assert result.returncode == 1
    assert "No space left on device" in result.stderr
    assert result.stdout == ""


def test_what_is_left_of_a_failed_picture_is_removed(program, tmp_path):
    # A limit on the size of files stands in for a disk that fills up half-way.
    script = 'trap "" XFSZ; ulimit -f 8; exec "$@"'
    arguments = [word for pair in {**ARGUMENTS, "-d": "256"}.items() for word in pair]
    result = run(["bash", "-c", script, "bash", program, "-o", tmp_path / "a.ppm", *arguments])
    assert result.returncode == 1
    assert "File too large" in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def sources(tmp_path):
    """A copy of the example, nothing built, in a folder with a blank in its name."""
    folder = tmp_path / "my examples" / "fractals"
    folder.mkdir(parents=True)
    for name in ("fractals.c", "process_task.sh"):
        shutil.copy2(FOLDER / name, folder / name)
    return folder


@pytest.fixture
def checkout(sources, program):
    """The same with the program in it."""
    shutil.copy2(program, sources / "fractals")
    return sources


def process_task(checkout, scratch, *arguments):
    """Run the script as a pilot does; return the result and what it wrote to $PICAS_OUTPUT, if anything."""
    scratch.mkdir(exist_ok=True)
    output = scratch / "output of the token.json"
    environment = {**os.environ, "PICAS_OUTPUT": str(output)}
    result = run([checkout / "process_task.sh", *arguments], cwd=scratch, env=environment)
    return result, json.loads(output.read_text()) if output.exists() else None


def test_a_token_becomes_a_picture_and_its_facts(checkout, tmp_path):
    scratch = tmp_path / "the scratch directory"
    result, output = process_task(checkout, scratch, "-q 0.5  -d 48\t-m 4 ", "token_3")
    assert (result.returncode, result.stderr) == (0, "")
    picture = scratch / "fractal_token_3.png"
    assert read_png(picture)[:2] == (48, 48)
    assert output.pop("seconds") >= 0
    assert output == {"file": "fractal_token_3.png", "size": picture.stat().st_size}


def test_any_id_makes_a_file_name_and_valid_json(checkout, tmp_path):
    scratch = tmp_path / "scratch"
    result, output = process_task(checkout, scratch, "-q 0.5 -d 48 -m 1", 'a/b "$(id)"')
    assert result.returncode == 0
    assert (scratch / output["file"]).is_file()
    assert output["file"] == "fractal_a_b____id__.png"


def test_without_picas_output_only_the_picture_is_written(checkout, tmp_path):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "PICAS_OUTPUT"}
    result = run([checkout / "process_task.sh", "-q 0.5 -d 48 -m 1", "t"], cwd=scratch, env=environment)
    assert result.returncode == 0, result.stderr
    assert [path.name for path in scratch.iterdir()] == ["fractal_t.png"]


@pytest.mark.parametrize(
    "text", ["-q 9 -d 48 -m 1", "-q 0.5 -d 48 -m 1; touch stolen", "-q $(touch stolen)", "*", ""]
)
def test_parameters_that_are_none_fail_and_are_never_run(checkout, tmp_path, text):
    scratch = tmp_path / "scratch"
    result, output = process_task(checkout, scratch, text, "t")
    assert (result.returncode, output) == (2, None)
    assert result.stderr != ""
    assert list(scratch.iterdir()) == []


def test_the_program_is_built_once_and_again_when_its_source_is_newer(sources, tmp_path):
    scratch = tmp_path / "scratch"
    built = sources / "fractals"

    def run_once():
        assert process_task(sources, scratch, "-q 0.5 -d 48 -m 1", "t")[0].returncode == 0
        return built.stat().st_ino

    first = run_once()
    assert run_once() == first
    os.utime(built, (1, 1))
    run_once()
    assert built.stat().st_mtime > 1
    assert sorted(path.name for path in sources.iterdir()) == ["fractals", "fractals.c", "process_task.sh"]


def test_two_workers_that_start_at_once_both_get_a_whole_program(sources, tmp_path):
    workers = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        command = [str(sources / "process_task.sh"), "-q 0.5 -d 48 -m 1", name]
        workers.append(subprocess.Popen(command, cwd=tmp_path / name, stdout=subprocess.DEVNULL))
    assert [worker.wait(timeout=60) for worker in workers] == [0, 0]
    assert sorted(path.name for path in sources.iterdir()) == ["fractals", "fractals.c", "process_task.sh"]


def test_a_source_that_does_not_compile_is_said_so(sources, tmp_path):
    (sources / "fractals.c").write_text("this is not C\n")
    result, output = process_task(sources, tmp_path / "scratch", "-q 0.5 -d 48 -m 1", "t")
    assert (result.returncode, output) == (1, None)
    assert "cannot build" in result.stderr


@pytest.mark.parametrize(("name", "lines"), [("sweep.txt", 24), ("sweep-small.txt", 6)])
def test_every_line_of_the_sweeps_is_a_picture_of_its_own(program, tmp_path, name, lines):
    parameters = (FOLDER / name).read_text().splitlines()
    assert len(set(parameters)) == lines
    for line in parameters:
        # The first levels only: whether the program accepts a line does not depend on them.
        words = line.split()
        assert words[-2] == "-m"
        assert 0 <= int(words[-1]) <= 10
        result = run([program, "-o", tmp_path / "a.png", *words[:-1], "1"])
        assert result.returncode == 0, line
