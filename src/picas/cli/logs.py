"""``picas logs``: what a token's work printed, also while it runs on this machine."""

from __future__ import annotations

import codecs
import socket
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from picas.cli import options, output, pools, text
from picas.cli.group import verb
from picas.errors import InvalidInput, PoolError
from picas.tokens import State, log_names
from picas.transitions import logs_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from picas.pool import Pool
    from picas.tokens import Token

STREAMS = ("out", "err")

POLL_SECONDS = 0.2
"""Between two looks at the files of a running token."""

STATE_SECONDS = 1.0
"""Between two looks at the token itself."""

CHUNK_BYTES = 1 << 16

KEPT_ON_TERMINAL = "\n\t"


class LogView(output.View):
    """The logs of one attempt, as data."""

    def __init__(self, token: Token, attempt: Any, parts: Sequence[tuple[str, bytes]]) -> None:
        self.token = token
        self.attempt = attempt
        self.parts = parts

    def data(self) -> dict[str, Any]:
        """See docs/reference/cli.md."""
        logs = {stream: data.decode("utf-8", "replace") for stream, data in self.parts}
        state = self.token.state
        return {
            "id": self.token.id,
            "state": state.value if state else options.OTHER,
            "attempt": self.attempt,
            **{stream: logs.get(stream) for stream in STREAMS},
        }


@verb("logs")
@click.argument("token_id", metavar="ID")
@click.option("--out", "stream", flag_value="out", help="Only the standard output.")
@click.option("--err", "stream", flag_value="err", help="Only the error output.")
@click.option(
    "--attempt", type=click.IntRange(min=1), metavar="N", help="Of this attempt; the latest if not given."
)
@click.option(
    "-f", "--follow", is_flag=True, help="Go on showing what is printed, until the token is finished."
)
@options.pass_call
def command(
    call: options.Call, token_id: str, stream: str | None, attempt: int | None, *, follow: bool
) -> output.View | None:
    """Show what a token's work printed: its standard output, then its error output.

    On a terminal, control characters are written out; into a file or pipe everything goes as it is.
    """
    pool = pools.existing(call)
    token = pool.get(token_id)
    streams = (stream,) if stream else STREAMS
    running = token.state is State.LOCKED and attempt in (None, token.run.get("attempt"))
    if follow and call.as_json:
        raise InvalidInput("--follow and --json do not go together")
    if running:
        files = _live_files(token, streams)
        if call.as_json:
            return LogView(token, token.run.get("attempt"), [(name, _whole(path)) for name, path in files])
        _print(_followed(pool, token, files) if follow else _once(files))
        return None
    entry = _entry(token, attempt)
    names = _attached(token, entry, streams)
    if call.as_json:
        parts = [(which, b"".join(pool.read_attachment(token.id, name))) for which, name in names]
        return LogView(token, entry.get("attempt"), parts)
    _print(piece for _, name in names for piece in pool.read_attachment(token.id, name))
    return None


def _print(pieces: Iterable[bytes]) -> None:
    """To a terminal what it cannot act on, to anything else what it is."""
    if not sys.stdout.isatty():
        output.raw(pieces)
        return
    decode = codecs.getincrementaldecoder("utf-8")("replace").decode
    for piece in pieces:
        output.write(text.visible(_without_returns(decode(piece)), keep=KEPT_ON_TERMINAL))


def _without_returns(shown: str) -> str:
    """The text with a new line where it would go back to the beginning of one, so that nothing is written over."""
    return shown.replace("\r\n", "\n").replace("\r", "\n")


# --- Of finished attempts ----------------------------------------------------------------------------


def _entry(token: Token, attempt: int | None) -> dict[str, Any]:
    """What is known of an attempt, the latest that ended if none is named.

    Raises:
        PoolError: there is none such.
    """
    entries = [*token.history, *([token.run] if token.run else [])]
    if attempt is None:
        for entry in entries[::-1]:
            if entry.get("logs") and not entry.get("superseded"):
                return entry
        # A token that another client finished has logs under the usual names, and no word of ours.
        return {"logs": list(log_names(token.id))}
    for entry in entries[::-1]:
        if attempt == entry.get("attempt"):
            return entry
    made = ", ".join(str(entry.get("attempt", "?")) for entry in entries) or "none"
    raise PoolError(f"token {token.id} has no attempt {attempt}", f"Its attempts are: {made}.")


def _attached(token: Token, entry: dict[str, Any], streams: Sequence[str]) -> list[tuple[str, str]]:
    """Stream and attachment of each log.

    Raises:
        PoolError: there is no log.
    """
    logged = [name for name in logs_of(entry) if name in token.attachments]
    if not logged:
        state = token.state.value if token.state else options.OTHER
        advice = (
            "It has not run yet."
            if not token.run and not token.history
            else f"picas show {token.id} tells more."
        )
        raise PoolError(f"token {token.id} ({state}) has no logs", advice)
    return [(stream, name) for stream in streams for name in logged if name.endswith("." + stream)]


# --- Of a running one --------------------------------------------------------------------------------


def _live_files(token: Token, streams: Sequence[str]) -> list[tuple[str, Path]]:
    """The files that the work is writing to.

    Raises:
        PoolError: they are not on this machine.
    """
    host, scratch = token.run.get("host"), token.run.get("scratch")
    if not isinstance(scratch, str):
        raise PoolError(
            f"token {token.id} was claimed by a program that does not say where it works",
            "Its logs are in the pool when it is finished.",
        )
    if host != socket.gethostname():
        raise PoolError(
            f"token {token.id} is running on {host or 'another machine'}",
            "Its logs are there until it is finished; then they are in the pool.",
        )
    return [(stream, Path(scratch, f"std{stream}")) for stream in streams]


def _whole(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _once(files: Sequence[tuple[str, Path]]) -> Iterator[bytes]:
    for _, path in files:
        with suppress(FileNotFoundError), open(path, "rb") as file:
            while piece := file.read(CHUNK_BYTES):
                yield piece


def _followed(pool: Pool, token: Token, files: Sequence[tuple[str, Path]]) -> Iterator[bytes]:
    """What comes, from all of the files as it comes, until the claim is over."""
    with ExitStack() as stack:
        opened: dict[Path, Any] = {}
        look_at = time.monotonic() + STATE_SECONDS
        over = False
        while True:
            for _, path in files:
                if path not in opened:
                    with suppress(FileNotFoundError):
                        opened[path] = stack.enter_context(open(path, "rb"))
            for file in opened.values():
                while piece := file.read(CHUNK_BYTES):
                    yield piece
            if over:
                return
            time.sleep(POLL_SECONDS)
            if time.monotonic() >= look_at:
                look_at = time.monotonic() + STATE_SECONDS
                current = pool.store.fetch([token.id])[0]
                over = (
                    current is None or current.claim_id != token.claim_id or current.state is not State.LOCKED
                )
