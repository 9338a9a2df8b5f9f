"""What people write tokens in: lines, tables, JSON, parameter sweeps. All of them give `Draft`s.

A source of drafts (`TokenFile`, `Sweep`) can be read more than once, so that everything is checked before
anything is pushed, and it holds one token at a time in memory, however many there are.

========  ====================  ========================================================================
format    ending                one token is
========  ====================  ========================================================================
lines     any other             a line; it is the ``input``, as it stands. Empty lines and lines that
                                begin with ``#`` are none.
csv       .csv, .tsv            a row; the header names its fields. A cell that JSON would read as a number,
                                ``true`` or ``false`` becomes that, an empty one is a field that is not there,
                                any other a string; ``input`` and ``_id`` are always strings.
jsonl     .jsonl, .ndjson       a line: an object with the fields, or a string, which is the ``input``.
json      .json                 an element of the list that the file is, or the one object that it is.
========  ====================  ========================================================================

Text is UTF-8, lines end in LF or CRLF, a token has at most `MAX_LINE_BYTES`. Every token needs an ``input``:
its own, or one made of its fields by a template (see `picas.text.template`). In a template for a table, ``{q}`` is
the text of the cell, so that ``0.30`` stays ``0.30``. Fields given for all tokens go before those of the file.

An object may be a whole token document of PiCaS 1.x: ``_id`` is then the token's id, and the fields that PiCaS
keeps itself may be there as long as they say that nobody has touched the token.
"""

from picas.tokenfile.draft import Draft, DraftSource, check_fields, draft_of, parse_assignment
from picas.tokenfile.reader import FORMATS, TokenFile
from picas.tokenfile.source import MAX_LINE_BYTES
from picas.tokenfile.sweep import Sweep

__all__ = [
    "FORMATS",
    "MAX_LINE_BYTES",
    "Draft",
    "DraftSource",
    "Sweep",
    "TokenFile",
    "check_fields",
    "draft_of",
    "parse_assignment",
]
