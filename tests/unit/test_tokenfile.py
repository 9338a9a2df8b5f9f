"""Token files: what becomes a token, and what is said of what cannot."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
import threading
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from picas.errors import InvalidInput, TokenFileError
from picas.tokenfile import (
    FORMATS,
    MAX_LINE_BYTES,
    Draft,
    TokenFile,
    draft,
    draft_of,
    parse_assignment,
    strict_json,
)
from picas.tokenfile.reader import MAX_PROBLEMS
from picas.tokens import fresh_body

# The file is written anew for every example, so it may be the same one.
same_file = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def written(tmp_path):
    """Write a file and give its path."""

    def write(content, name="tokens.txt"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def drafts_of(path, **options):
    with TokenFile(path, **options) as tokens:
        return list(tokens)


def fields_of(path, **options):
    return [draft.fields for draft in drafts_of(path, **options)]


def inputs_of(path, **options):
    return [draft.fields["input"] for draft in drafts_of(path, **options)]


def refusal(path, **options):
    """The error that a file gives, the same whether it is checked or read."""
    with TokenFile(path, **options) as tokens:
        with pytest.raises(TokenFileError) as read:
            list(tokens)
        with pytest.raises(TokenFileError) as checked:
            tokens.check()
    assert checked.value.message.startswith(read.value.message)
    assert checked.value.line == read.value.line
    return read.value


# --- Lines -------------------------------------------------------------------------------------------


def test_each_line_is_the_input_of_a_token(written):
    path = written("echo one\n\n  echo 'two'  \n# a comment\n   \n #echo three\r\necho four")

    assert drafts_of(path) == [
        Draft({"input": "echo one"}, None, str(path), 1),
        Draft({"input": "  echo 'two'  "}, None, str(path), 3),
        Draft({"input": " #echo three"}, None, str(path), 6),
        Draft({"input": "echo four"}, None, str(path), 7),
    ]


def test_a_byte_order_mark_is_no_part_of_the_first_line(written):
    assert inputs_of(written(b"\xef\xbb\xbfone\ntwo\n")) == ["one", "two"]
    assert inputs_of(written(b"\xef\xbb\xbf# comment\ntwo\n")) == ["two"]


line_text = st.text(st.characters(exclude_characters="\0\n", exclude_categories=["Cs"]))


@same_file
@given(lines=st.lists(line_text, min_size=1), last_end=st.sampled_from(["", "\n", "\r\n"]))
def test_lines_come_back_as_they_were_written(written, lines, last_end):
    kept = [line for line in lines if not (line.isspace() or line[:1] in ("#", ""))]
    # at a line's end, CR belongs to the end; and a file's first character may not be a byte order mark
    if not kept or any(line.endswith("\r") for line in lines) or "\ufeff" in lines[0]:
        return

    assert inputs_of(written("\n".join(lines) + last_end)) == kept


def test_a_template_and_fields_for_all_apply_to_lines_too(written):
    path = written("a.fits\nb.fits\n")

    assert fields_of(path, template="process {input} {cores}", fields={"cores": 4}) == [
        {"input": "process a.fits 4", "cores": 4},
        {"input": "process b.fits 4", "cores": 4},
    ]


# --- CSV ---------------------------------------------------------------------------------------------


def test_a_row_is_a_token_and_the_header_names_its_fields(written):
    path = written("input,q,name,flag,zip,none\nrun,0.5,x y,true,007,\n1.50,-3,Ö,False,nan,null\n", "t.csv")

    assert drafts_of(path) == [
        Draft({"input": "run", "q": 0.5, "name": "x y", "flag": True, "zip": "007"}, None, str(path), 2),
        Draft(
            {"input": "1.50", "q": -3, "name": "Ö", "flag": "False", "zip": "nan", "none": "null"},
            None,
            str(path),
            3,
        ),
    ]


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("0", 0),
        ("-12", -12),
        ("0.10", 0.1),
        ("1e3", 1000.0),
        ("1E-3", 0.001),
        (" 5 ", 5),
        ("12345678901234567890", 12345678901234567890),
        ("true", True),
        ("false", False),
        ("007", "007"),
        ("00", "00"),
        ("+5", "+5"),
        (".5", ".5"),
        ("5.", "5."),
        ("1e999", "1e999"),
        ("9" * 5000, "9" * 5000),
        ("1_000", "1_000"),
        ("0x10", "0x10"),
        ("inf", "inf"),
        ("-", "-"),
        ("٣", "٣"),
        (" text ", " text "),
    ],
)
def test_a_cell_is_a_number_only_if_json_would_read_it_as_one(written, cell, value):
    (fields,) = fields_of(written(f"input,x\nrun,{cell}\n", "t.csv"))

    # Python that knows no limit of digits converts them all
    if cell == "9" * 5000 and fields["x"] == int("9" * 2500) * 10**2500 + int("9" * 2500):
        return
    assert fields["x"] == value
    assert type(fields["x"]) is type(value)


def test_a_template_sees_the_text_of_the_cells(written):
    path = written("q,d, n\n0.30,007, 5\n", "t.csv")

    assert fields_of(path, template="run -q {q} -d {d} -n {n} -s {s}", fields={"s": True}) == [
        {"q": 0.3, "d": "007", "n": 5, "s": True, "input": "run -q 0.30 -d 007 -n 5 -s true"}
    ]


def test_a_template_that_meets_an_empty_cell_is_an_error_of_that_line(written):
    error = refusal(written("q,d\n1,2\n3,\n", "t.csv"), template="run {q} {d}")

    assert error.line == 3
    assert "{d}" in error.message


def test_quoted_cells_may_have_separators_quotes_and_line_ends_in_them(written):
    path = written('input,q\r\n"echo ""a"",\r\nb",1\r\n\r\nc,2\r\n', "t.csv")

    assert drafts_of(path) == [
        Draft({"input": 'echo "a",\r\nb', "q": 1}, None, str(path), 2),
        Draft({"input": "c", "q": 2}, None, str(path), 5),
    ]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.tsv", "input\tq\na,b\t1\n"),
        ("t.csv", "\n\ninput;q\na,b;1\n"),
        ("t.csv", "input\tq\na,b\t1\n"),
        ("t.CSV", 'input,q\n"a,b",1\n'),
    ],
)
def test_cells_are_separated_as_the_header_or_the_ending_says(written, name, content):
    assert fields_of(written(content, name)) == [{"input": "a,b", "q": 1}]


def test_rows_of_empty_cells_are_no_tokens(written):
    assert fields_of(written("input,q\n,\nrun,1\n,\n", "t.csv")) == [{"input": "run", "q": 1}]


def test_a_column_of_ids_names_the_tokens_that_have_one(written):
    drafts = drafts_of(written("_id,input\n007,a\n,b\n", "t.csv"))

    assert [(draft.id, draft.fields) for draft in drafts] == [("007", {"input": "a"}), (None, {"input": "b"})]


csv_cell = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


@same_file
@given(rows=st.lists(st.tuples(csv_cell, csv_cell), min_size=1))
def test_a_table_comes_back_as_it_was_written(written, rows):
    rows = [("x" + text, "y" + other) for text, other in rows]
    text = io.StringIO(newline="")
    csv.writer(text).writerows([("input", "other"), *rows])

    found = fields_of(written(text.getvalue(), "t.csv"))

    assert [(fields["input"], fields["other"]) for fields in found] == rows


@pytest.mark.parametrize(
    ("content", "line", "why"),
    [
        ("q,d\n1,2\n", 1, "there is no column 'input', only q, d"),
        ("input,q,\na,1,\n", 1, "column 3 has no name"),
        ("input,q, q\na,1,2\n", 1, "two columns are called 'q'"),
        ("input,_rev\na,1\n", 1, "the column '_rev' begins with an underscore"),
        ("input,q\na,1\nb\n", 3, "the row has 1 cells, the header 2"),
        ('input,q\n"a\nb",1\nc,1,2\n', 4, "the row has 3 cells, the header 2"),
        ("input,priority\na,high\n", 2, "the priority is a number, not 'high'"),
        ("input,lock\na,0\nb,1700000000\n", 3, "'lock' is kept by PiCaS itself"),
        ("input,output\na,x.png\n", 2, "'output' is kept by PiCaS itself"),
        ("input,q\n,1\n", 2, "it has no 'input'"),
        ('input,q\na,1\n"b,2\nc,3\n', 3, "a quote is opened and never closed"),
        ('input,q\n"a"b,1\n', 2, "this is not CSV"),
        ("input,q\n" + "x" * 200_000 + ",1\n", 2, "a cell has more than"),
    ],
)
def test_a_table_with_a_mistake_is_refused_with_the_line_and_the_reason(written, content, line, why):
    error = refusal(written(content, "t.csv"))

    assert error.line == line
    assert why in error.message
    assert f"t.csv, line {line}: " in error.message


def test_a_column_that_a_template_cannot_name_is_not_silently_left_in_braces(written):
    path = written("my col,q\na,1\n", "t.csv")

    assert "the column 'my col' cannot stand in a template" in refusal(path, template="run {my col}").message
    assert inputs_of(path, template="run {q}") == ["run 1"]


def test_a_quote_that_is_never_closed_does_not_take_in_the_whole_file(written, monkeypatch):
    monkeypatch.setattr("picas.tokenfile.table.MAX_LINE_BYTES", 1000)
    path = written('input,q\n"a,1\n' + "b,2\n" * 10_000, "t.csv")

    error = refusal(path)

    assert (error.line, "longer than" in error.message) == (2, True)


# --- JSON --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.jsonl", '{"input": {"q": 1}, "n": null}\r\n\n  \n"echo \\u00e9 é"\n'),
        ("t.ndjson", '\ufeff{"input": {"q": 1}, "n": null}\n\n\n"echo é é"'),
        ("t.json", '[{"input":\n{"q": 1}, "n": null},\n\n"echo é é"\n]\n'),
        ("t.json", '\ufeff \n[ {"input": {"q": 1}, "n": null} ,\n\n"echo é é"]'),
    ],
)
def test_objects_are_the_fields_and_strings_the_input(written, name, content):
    path = written(content, name)

    first, second = drafts_of(path)

    assert first.fields == {"input": {"q": 1}, "n": None}
    assert second.fields == {"input": "echo é é"}
    assert second.line in (3, 4)


def test_a_json_file_may_be_one_object(written):
    path = written('\n{"input": "a",\n "q": 1}\n', "t.json")

    assert drafts_of(path) == [Draft({"input": "a", "q": 1}, None, str(path), 2)]


@pytest.mark.parametrize("name", ["t.jsonl", "t.json"])
def test_numbers_are_kept_exactly(written, name):
    text = '{"input": "a", "big": 123456789012345678901234567890, "small": -0.1, "float": 1.0}'

    (fields,) = fields_of(written(text, name))

    assert json.dumps(fields) == text


def test_a_template_reaches_into_the_objects(written):
    path = written('{"_id": "x1", "p": {"q": 0.5}, "input": "data"}\n', "t.jsonl")

    (found,) = drafts_of(path, template="run {input} {p.q} > {id}.out")

    assert (found.id, found.fields["input"]) == ("x1", "run data 0.5 > x1.out")


def test_a_whole_token_document_of_picas_1_is_taken_if_it_is_fresh(written):
    document = {"_id": "token_5", **fresh_body({"input": "run"}), "output": {}, "uploads": {}, "error": []}

    (found,) = drafts_of(written(json.dumps(document), "t.jsonl"))

    assert (found.id, found.fields) == ("token_5", {"input": "run"})


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"lock": 1700000000}, "'lock' is kept by PiCaS itself: in a new token it can only be 0"),
        ({"lock": False}, "'lock' is kept"),
        ({"done": "0"}, "'done' is kept"),
        ({"exit_code": 0}, "'exit_code' is kept by PiCaS itself: in a new token it can only be ''"),
        ({"hostname": "node1"}, "'hostname' is kept"),
        ({"scrub_count": 1}, "'scrub_count' is kept"),
        ({"type": "job"}, "'type' is kept"),
        ({"error": [{}]}, "'error' is kept"),
        ({"output": {"x": 1}}, "'output' is kept"),
        ({"picas": {}}, "'picas' is kept by PiCaS itself, and is not in a new token"),
        ({"slurm_job_id": "1"}, "'slurm_job_id' is kept"),
        ({"_rev": "1-a"}, "'_rev' is kept"),
        ({"_attachments": {}}, "'_attachments' is kept"),
        ({"_x": 1}, "'_x' begins with an underscore"),
        ({"": 1}, "a field has no name"),
        ({"_id": ""}, "'_id' is a string that is not empty, not ''"),
        ({"_id": 5}, "'_id' is a string that is not empty, not 5"),
        ({"_id": None}, "'_id' is a string that is not empty, not None"),
        ({"_id": "_design/x"}, "begins with an underscore"),
        ({"_id": "a\0b"}, "has a NUL character in it"),
        ({"priority": "high"}, "the priority is a number, not 'high'"),
        ({"priority": True}, "the priority is a number"),
        ({"priority": 10**400}, "the priority is a number"),
        ({"input": ...}, "it has no 'input'"),
    ],
)
def test_an_object_that_is_no_fresh_token_is_refused_with_the_field_and_the_reason(written, fields, why):
    document = {"input": "a", **fields}
    document = {name: value for name, value in document.items() if value is not ...}

    error = refusal(written("\n" + json.dumps(document), "t.jsonl"))

    assert error.line == 2
    assert why in error.message


@pytest.mark.parametrize("name", ["t.jsonl", "t.json"])
@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"input": "a"', "this is not JSON: "),
        ("{'input': 'a'}", "this is not JSON: "),
        ('{"input": "a}', "this is not JSON: Unterminated string"),
        ('{"input": "a", "x": NaN}', "NaN is not JSON"),
        ('{"input": "a", "x": [-Infinity]}', "-Infinity is not JSON"),
        ('{"input": "a", "x": 1e999}', "the number 1e999 is too large"),
        ('{"input": "a", "x": {"y": 1, "z": 2, "y": 3}}', "the key 'y' stands twice"),
        ('{"input": "a", "x": "\\ud83d"}', "escape stands alone"),
        ('{"input": ' + "[" * 101 + "]" * 101 + "}", "nested deeper than 100 levels"),
        ('{"input": ' + "[" * 100_000 + "]" * 100_000 + "}", "nested deeper than 100 levels"),
        ("5", "a number is no token"),
        ("null", "null is no token"),
        ("true", "true or false is no token"),
        ('{"input": "a"} {"input": "b"}', ("Extra data", "something stands after the end")),
    ],
)
def test_what_is_not_json_or_no_token_is_refused_with_the_line(written, name, text, why):
    error = refusal(written("\n" + text, name))

    assert error.line == 2
    assert any(part in error.message for part in ([why] if isinstance(why, str) else why))


def test_braces_that_are_many_but_not_deep_are_no_problem(written):
    assert len(inputs_of(written(json.dumps({"input": [[{}]] * 1000}), "t.jsonl"))[0]) == 1000


@pytest.mark.parametrize("name", ["t.jsonl", "t.json"])
def test_the_place_of_a_mistake_in_json_is_on_its_own_line(written, name):
    error = refusal(written('\n {"input": }\n', name))

    assert (error.line, error.message.endswith("Expecting value, at column 12")) == (2, True), error.message


def test_a_line_of_json_that_is_cut_is_told_at_its_end(written):
    assert refusal(written('{"input"\n"b"\n', "t.jsonl")).message.endswith("delimiter, at column 9")


@pytest.mark.parametrize(
    ("content", "line", "why"),
    [
        ('["a",\n"b"', 2, "the list has no end"),
        ('["a",\n"b",\n]', 3, "this is not JSON"),
        ('["a"\n"b"]', 2, "expecting ',' or ']'"),
        ('["a",\n["b"]]', 2, "a list is no token"),
        ('["a"]\n["b"]', 2, "something stands after the end"),
        ('{"input": "a"}\n{"input": "b"}\n', 2, "something stands after the end"),
        ('["a",\n\n{"input": "b",\n\n"x": y}]', 5, "this is not JSON: Expecting value"),
    ],
)
def test_a_list_with_a_mistake_is_refused_with_its_line(written, content, line, why):
    error = refusal(written(content, "t.json"))

    assert (error.line, why in error.message) == (line, True), error.message


def test_a_json_file_with_an_object_per_line_gets_the_right_advice(written):
    assert "--format jsonl" in refusal(written('{"input": "a"}\n{"input": "b"}\n', "t.json")).advice


json_value = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4)
    ),
    max_leaves=10,
)


@same_file
@given(
    values=st.lists(json_value, min_size=1),
    indent=st.sampled_from([None, 1]),
    ascii_only=st.booleans(),
    data=st.data(),
)
def test_a_list_comes_back_however_it_is_written_and_wherever_a_chunk_ends(
    written, values, indent, ascii_only, data
):
    documents = [{"input": value} for value in values]
    path = written(json.dumps(documents, indent=indent, ensure_ascii=ascii_only), "t.json")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(strict_json, "CHUNK_BYTES", data.draw(st.integers(1, 40)))
        found = drafts_of(path)

    assert [found.fields for found in found] == documents
    if indent:
        lines = path.read_bytes().decode().split("\n")
        assert all(lines[one.line - 1].startswith(" {") for one in found)


def test_a_long_list_is_read_in_constant_memory(written):
    path = written("[" + ",\n".join(json.dumps({"input": "x" * 100}) for _ in range(30_000)) + "]", "t.json")

    with TokenFile(path) as tokens:
        tracemalloc.start()
        try:
            count = tokens.check()
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

    assert count == 30_000
    assert peak < 1_000_000 < path.stat().st_size


# --- Whatever the format -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["t.txt", "t.csv", "t.jsonl", "t.json"])
@pytest.mark.parametrize("content", ["", "\n\n", "\ufeff", " \n\t\n"])
def test_an_empty_file_is_a_mistake(written, name, content):
    error = refusal(written(content, name))

    assert error.message.endswith(f"{name}: there are no tokens in it")
    assert error.line == 0


@pytest.mark.parametrize(
    ("name", "content"), [("t.txt", "# only\n"), ("t.csv", "input\n"), ("t.json", "[ ]")]
)
def test_so_is_a_file_without_tokens(written, name, content):
    assert "there are no tokens in it" in refusal(written(content, name)).message


SAMPLE = {
    "lines": ("", "{}\n"),
    "csv": ("input\n", "{}\n"),
    "jsonl": ("", '"{}"\n'),
    "json": ("[", '"{}",\n'),
}


def sample(kind, middle):
    head, line = (part.encode() for part in SAMPLE[kind])
    return head + line.replace(b"{}", b"ok") + line.replace(b"{}", middle)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize(
    ("middle", "why", "advice"),
    [
        (b"caf\xe9 1", "this is not UTF-8: byte 0xe9 at column", "iconv -f latin1 -t utf-8"),
        (b"\xc3\xa9\xc3", "this is not UTF-8: byte 0xc3 at column", "iconv"),
        (b"a\0b", "there is a NUL byte in it", "Is this a text file?"),
    ],
)
def test_what_is_no_text_is_told_with_the_line(written, kind, middle, why, advice):
    error = refusal(written(sample(kind, middle)), format=kind)

    assert error.line == (3 if kind == "csv" else 2)
    assert why in error.message
    assert advice in error.advice


def test_the_column_of_a_wrong_byte_counts_characters(written):
    assert "byte 0xe9 at column 5" in refusal(written("ok\nfür ".encode() + b"\xe9")).message
    assert "byte 0xe9 at column 6" in refusal(written('"ok\n"für '.encode() + b"\xe9", "t.json")).message


@pytest.mark.parametrize("kind", FORMATS)
def test_a_line_of_50_megabytes_is_refused_without_being_held(written, kind):
    path = written(sample(kind, b"x" * 50_000_000))

    with TokenFile(path, format=kind) as tokens:
        tracemalloc.start()
        try:
            with pytest.raises(TokenFileError) as caught:
                tokens.check()
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

    assert caught.value.line == (3 if kind == "csv" else 2)
    assert "it is longer than 8,000,000 bytes" in caught.value.message
    assert peak < 40_000_000


def test_a_line_may_have_exactly_the_most_bytes_whatever_ends_it(written):
    longest = "é" * (MAX_LINE_BYTES // 2)

    assert inputs_of(written(f"{longest}\r\nb\n{longest}")) == [longest, "b", longest]
    assert inputs_of(written(f'["{longest[1:]}", "b"]', "t.json")) == [longest[1:], "b"]
    assert refusal(written(f'["{longest}", "b"]', "t.json")).message.endswith("longer than 8,000,000 bytes")
    with TokenFile(written(f"{longest}x\r\nb\n{longest}")) as tokens, pytest.raises(TokenFileError) as caught:
        tokens.check()
    assert caught.value.message.endswith("line 1: it is longer than 8,000,000 bytes")


@pytest.mark.parametrize("limit", [3, 10_000])
@pytest.mark.parametrize("name", ["t.jsonl", "t.json"])
def test_an_id_that_comes_twice_is_told_with_its_first_line(written, monkeypatch, name, limit):
    monkeypatch.setattr(draft, "MAX_IDS_IN_MEMORY", limit)
    ids = ["a", "b", "é", "c", "d", "e", "a", "e"]
    lines = [json.dumps({"_id": name, "input": "x"}) for name in ids]
    path = written("\n".join(lines) if name == "t.jsonl" else "[" + ",\n".join(lines) + "]", name)

    assert "line 7: the id 'a' is on line 1 already" in refusal(path).message
    with TokenFile(path) as tokens, pytest.raises(TokenFileError) as caught:
        tokens.check()
    assert "line 8: the id 'e' is on line 6 already" in caught.value.message


def test_an_id_that_comes_twice_on_one_line_is_found_too(written):
    path = written('[{"_id": "a", "input": "x"}, {"_id": "a", "input": "x"}]', "t.json")

    assert "the id 'a' is on line 1 already" in refusal(path).message


def test_identical_lines_are_tokens_of_their_own(written):
    assert inputs_of(written("a\na\n")) == ["a", "a"]


def test_a_check_tells_all_mistakes_at_once(written):
    path = written(b'"a"\n{"input"}\n"b"\nNaN\n\xff\n"c"\n{"input": 1, "lock": 5}\n', "t.jsonl")

    with TokenFile(path) as tokens, pytest.raises(TokenFileError) as caught:
        tokens.check()

    messages = caught.value.message.split("\n")
    assert [message.partition(": ")[0] for message in messages] == [f"{path}, line {n}" for n in (2, 4, 5, 7)]
    assert caught.value.line == 2
    assert caught.value.advice.split("\n")[-1] == "Leave it out, or give it another name."


def test_a_check_does_not_tell_more_mistakes_than_anyone_reads(written):
    with TokenFile(written("x\n" * 100, "t.jsonl")) as tokens, pytest.raises(TokenFileError) as caught:
        tokens.check()

    messages = caught.value.message.split("\n")
    assert len(messages) == MAX_PROBLEMS + 1
    assert messages[-1] == "More may follow."


def test_a_check_counts_and_takes_the_callers_own_mistakes(written):
    def picky(found):
        if found.line % 2 == 0:
            raise InvalidInput(f"{found.fields['input']} is even")

    path = written("one\ntwo\nthree\nfour\n")
    with TokenFile(path) as tokens:
        assert tokens.check() == 4
        with pytest.raises(TokenFileError) as caught:
            tokens.check(picky)

    assert caught.value.message == f"{path}, line 2: two is even\n{path}, line 4: four is even"


def test_a_file_can_be_read_many_times_also_at_once(written):
    with TokenFile(written("".join(f"{n:01000}\n" for n in range(2000)))) as tokens:
        assert tokens.check() == 2000
        pairs = list(zip(tokens, tokens))

    assert len(pairs) == 2000
    assert all(one == other for one, other in pairs)


def test_it_tells_how_far_it_has_read(written):
    with TokenFile(written("x" * 99 + "\n" + "y" * 900_000)) as tokens:
        assert (tokens.size, tokens.position) == (900_100, 0)
        reading = iter(tokens)
        next(reading)
        assert 100 <= tokens.position < 900_100
        next(reading)
        assert tokens.position == 900_100


def test_a_file_that_changes_while_it_is_read_is_refused(written):
    path = written("a\nb\n")
    with TokenFile(path) as tokens:
        assert tokens.check() == 2
        reading = iter(tokens)
        next(reading)
        with path.open("a") as file:
            file.write("c\n")
        with pytest.raises(TokenFileError, match="it was changed while it was being read"):
            list(reading)
        with pytest.raises(TokenFileError, match="it was changed while it was being read"):
            tokens.check()


@pytest.mark.parametrize(
    ("magic", "why"),
    [
        (b"\x1f\x8b\x08\0", "compressed with gzip"),
        (b"PK\x03\x04", "a zip archive or a spreadsheet"),
        ("a\n".encode("utf-16"), "UTF-16"),
    ],
)
def test_a_file_that_is_no_text_is_told_as_what_it_is(written, magic, why):
    with pytest.raises(TokenFileError) as caught:
        TokenFile(written(magic))

    assert why in caught.value.message
    assert caught.value.advice


def test_a_file_that_is_not_there_and_a_directory_are_told(tmp_path):
    for path, why in [(tmp_path / "missing.txt", "there is no such file"), (tmp_path, "it is a directory")]:
        with pytest.raises(TokenFileError) as caught:
            TokenFile(path)
        assert caught.value.message == f"{path}: {why}"
        assert caught.value.line == 0


def test_a_file_that_may_not_be_read_is_told(written, monkeypatch):
    # root may read everything, so the refusal is made up
    def refuse(*_args):
        raise PermissionError(13, "Permission denied")

    path = written("a\n")
    monkeypatch.setattr("builtins.open", refuse)

    with pytest.raises(TokenFileError, match="you have no right to read it"):
        TokenFile(path)


def test_a_format_that_is_none_is_told_with_those_there_are(written):
    with pytest.raises(InvalidInput, match="lines, csv, jsonl, json"):
        TokenFile(written("a\n"), format="yaml")


def test_a_format_that_is_told_goes_before_the_ending(written):
    assert inputs_of(written('"a"\n', "t.json"), format="lines") == ['"a"']
    assert inputs_of(written('"a"\n', "t.txt"), format="jsonl") == ["a"]


@pytest.mark.parametrize("kind", FORMATS)
def test_fields_for_all_go_before_those_of_the_file(written, kind):
    content = {
        "lines": "a\n",
        "csv": "input,q\na,1\n",
        "jsonl": '{"input": "a", "q": 1}',
        "json": '[{"input": "a", "q": 1}]',
    }[kind]

    assert fields_of(written(content), format=kind, fields={"q": 2}) == [{"input": "a", "q": 2}]


def test_an_input_for_all_is_an_input(written):
    assert fields_of(written("q\n1\n", "t.csv"), fields={"input": "run"}) == [{"q": 1, "input": "run"}]


def test_fields_for_all_may_be_none_of_those_that_picas_keeps(written):
    with pytest.raises(InvalidInput, match="'lock' is kept by PiCaS itself"):
        TokenFile(written("a\n"), fields={"lock": 0})


# --- Standard input and pipes ------------------------------------------------------------------------


class Stdin:
    def __init__(self, buffer):
        self.buffer = buffer


def test_standard_input_is_read_once_and_given_twice(monkeypatch):
    stream = io.BytesIO(b"a\nb\n")
    monkeypatch.setattr(sys, "stdin", Stdin(stream))

    with TokenFile("-") as tokens:
        assert tokens.size == 4
        assert tokens.check() == 2
        assert [(found.fields["input"], found.source, found.line) for found in tokens] == [
            ("a", "<stdin>", 1),
            ("b", "<stdin>", 2),
        ]
    assert stream.read() == b""


def test_a_named_pipe_is_read_once_and_given_twice(tmp_path):
    path = tmp_path / "pipe.jsonl"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_text, args=('"a"\n"b"\n',))
    writer.start()

    with TokenFile(path) as tokens:
        assert tokens.check() == 2
        assert [found.fields["input"] for found in tokens] == ["a", "b"]
    writer.join()


def test_a_full_temporary_directory_is_told(monkeypatch):
    class Full(io.BytesIO):
        def read(self, size=-1):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(sys, "stdin", Stdin(Full()))

    with pytest.raises(
        TokenFileError, match=r"<stdin>: it cannot be copied to .*No space left on device"
    ) as caught:
        TokenFile("-")

    assert "TMPDIR" in caught.value.advice


# --- What people set by hand -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("cores=4", "cores", 4),
        ("q=0.5", "q", 0.5),
        ("site=spider", "site", "spider"),
        ('site="4"', "site", "4"),
        ("gpu=true", "gpu", True),
        ("note=null", "note", None),
        ("zip=007", "zip", "007"),
        ("x=NaN", "x", "NaN"),
        ("x=", "x", ""),
        ("x=a=b", "x", "a=b"),
        (" x = a", "x", " a"),
        ('x={"a": [1]}', "x", {"a": [1]}),
        ("x={a", "x", "{a"),
        ("priority=1.5", "priority", 1.5),
    ],
)
def test_an_assignment_is_json_where_it_can_be(text, name, value):
    assert parse_assignment(text) == (name, value)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("cores", "'cores' sets no field"),
        ("=4", "'=4' sets no field"),
        ("lock=0", "'lock' is kept by PiCaS itself"),
        ("picas={}", "'picas' is kept"),
        ("_id=x", "begins with an underscore"),
        ("priority=high", "the priority is a number, not 'high'"),
        ("x=\udcff", "is not UTF-8"),
    ],
)
def test_an_assignment_that_sets_nothing_is_refused(text, why):
    with pytest.raises(InvalidInput) as caught:
        parse_assignment(text)

    assert why in caught.value.message


def test_a_draft_is_made_of_a_python_value_by_the_same_rules():
    assert draft_of("run", "push", 3) == Draft({"input": "run"}, None, "push", 3)
    assert draft_of({"_id": "x", "input": 1, "lock": 0}, "push", 1) == Draft({"input": 1}, "x", "push", 1)
    with pytest.raises(InvalidInput, match="a number is no token"):
        draft_of(5, "push", 1)


def test_a_path_may_be_a_string_or_a_path(written):
    path = written("a\n")

    assert drafts_of(str(path)) == drafts_of(Path(path))
