"""Count words: a Python function per token, no shell.

    python examples/wordcount/wordcount.py [--pool URL] [--top N] [FILE ...]

pushes a token for each text file, runs a pilot that counts its words, and
adds up what the tokens report. Without FILE it reads the texts beside it.

The work can as well be done by pilots that are started on their own, here or in
another terminal, once the tokens are in the pool:

    PYTHONPATH=examples/wordcount picas run --call wordcount:count_words
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import uuid
from collections import Counter
from pathlib import Path

import picas

TEXTS = Path(__file__).parent / "texts"
# Letters of any language, with an apostrophe between them: "it's" is one word.
WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")


def count_words(token: picas.Token) -> dict[str, object]:
    """Count the words of the text file that the token's input names.

    What this returns becomes the token's `output`. What it raises (no such
    file, not UTF-8) puts the token in the state "error", with the message.
    """
    text = Path(token.input).read_text(encoding="utf-8")
    counts = Counter(WORD.findall(text.lower()))
    return {"words": sum(counts.values()), "counts": dict(counts)}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Count the words of text files, a token each.")
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="default: the texts beside it")
    pool = os.environ.get("PICAS_POOL") or "sqlite:///picas.db"
    parser.add_argument(
        "--pool", default=pool, metavar="URL", help="default: $PICAS_POOL, or sqlite:///picas.db"
    )
    parser.add_argument("--top", type=int, default=10, metavar="N", help="words to show (default: 10)")
    return parser.parse_args()


def main() -> int:
    arguments = parse_arguments()
    files = arguments.files or sorted(TEXTS.glob("*.txt"))
    # The pool may hold other work, and earlier runs of this. A field of its own
    # lets the pilot, and the sum below, see the tokens of this run only.
    batch = uuid.uuid4().hex
    ours = picas.Selection.parse(f'batch == "{batch}"')

    with picas.open_pool(arguments.pool) as pool:
        pool.push([{"input": str(path.resolve()), "batch": batch} for path in files])
        picas.Pilot(pool, count_words, where=ours).run()
        done = list(pool.tokens(state="done", where=ours))
        failed = list(pool.tokens(state="error", where=ours))

    total: Counter[str] = Counter()
    for token in done:
        total.update(token["output"]["counts"])
    print(f"{sum(total.values())} words, {len(total)} different, in {len(done)} of {len(files)} texts")
    for word, count in total.most_common(arguments.top):
        print(f"{count:7} {word}")
    for token in failed:
        print(f"{token.id}: could not count {token.input}; see: picas logs {token.id}", file=sys.stderr)
    return 0 if len(done) == len(files) else 1


if __name__ == "__main__":
    sys.exit(main())
