"""What goes wrong with a request on its way through `proxy.FaultProxy`.

"Stored" is what the server has done by then: the client cannot tell, and that is the point of some of them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.couchdb.exchange import Exchange


class Fault:
    """Something that happens to a request."""

    def happen(self, exchange: Exchange) -> bool:
        """Deal with the request; whether the connection may be used for the next."""
        raise NotImplementedError


class Pass(Fault):
    """Nothing goes wrong."""

    def happen(self, exchange: Exchange) -> bool:
        exchange.forward()
        return exchange.pass_answer(exchange.answer_head())


@dataclass(frozen=True)
class Delay(Fault):
    """The answer takes longer: the request waits here, or, with `stored`, the answer does."""

    seconds: float
    stored: bool = False

    def happen(self, exchange: Exchange) -> bool:
        if not self.stored:
            exchange.ended.wait(self.seconds)
        exchange.forward()
        head = exchange.answer_head()
        if self.stored:
            exchange.ended.wait(self.seconds)
        return exchange.pass_answer(head)


class Drop(Fault):
    """The connection is closed without an answer; not stored."""

    def happen(self, exchange: Exchange) -> bool:
        exchange.skip_request()
        return False


class Reset(Fault):
    """The connection is reset (RST) without an answer; not stored."""

    def happen(self, exchange: Exchange) -> bool:
        exchange.client.reset()
        return False


class Hang(Fault):
    """The request is taken, and no answer comes until the client gives up; not stored."""

    def happen(self, exchange: Exchange) -> bool:
        exchange.client.wait_for_end()
        return False


@dataclass(frozen=True)
class LoseAnswer(Fault):
    """Stored, and then the connection is closed, or reset, instead of an answer."""

    reset: bool = False

    def happen(self, exchange: Exchange) -> bool:
        exchange.forward()
        exchange.swallow_answer()
        if self.reset:
            exchange.client.reset()
        return False


@dataclass(frozen=True)
class Truncate(Fault):
    """Stored; of the answer's body come so many bytes, and then the connection is closed, or hangs."""

    after_bytes: int
    hang: bool = False

    def happen(self, exchange: Exchange) -> bool:
        exchange.forward()
        exchange.client.send(exchange.answer_head())
        left = self.after_bytes
        for piece in exchange.answer_body():
            exchange.client.send(piece[:left])
            left -= len(piece)
            if left <= 0:
                break
        if self.hang:
            exchange.client.wait_for_end()
        return False


class Twice(Fault):
    """The answer comes twice, the second one to no request."""

    def happen(self, exchange: Exchange) -> bool:
        exchange.forward()
        answer = exchange.answer_head() + b"".join(exchange.answer_body())
        exchange.client.send(answer + answer)
        return exchange.lasts


@dataclass(frozen=True)
class Garbage(Fault):
    """What answers speaks no HTTP; not stored."""

    data: bytes = b"\x00\xff SSH-2.0-OpenSSH_9.2\r\n\r\n"

    def happen(self, exchange: Exchange) -> bool:
        exchange.skip_request()
        exchange.client.send(self.data)
        return False


@dataclass(frozen=True)
class Answer(Fault):
    """An answer that is not the server's; what is no text of one's own becomes JSON, as CouchDB words it.

    With `stored` the server has done what it was asked for all the same.
    """

    status: int
    body: Any = field(default_factory=lambda: {"error": "fault", "reason": "made up by the test's proxy"})
    headers: Mapping[str, str] = field(default_factory=dict)
    stored: bool = False

    def happen(self, exchange: Exchange) -> bool:
        if self.stored:
            exchange.forward()
            exchange.swallow_answer()
        exchange.skip_request()
        is_text = isinstance(self.body, str)
        body = (self.body if is_text else json.dumps(self.body) + "\n").encode()
        headers = {
            "Content-Type": "text/html; charset=utf-8" if is_text else "application/json",
            "Content-Length": str(len(body)),
            **self.headers,
        }
        lines = [f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        head = "\r\n".join([*lines, "", ""]).encode()
        exchange.client.send(head + (b"" if exchange.request.method == "HEAD" else body))
        return True


def error_page(status: int = 502) -> Answer:
    """The HTML page of a proxy in front of the server; with 200, of a login that it wants first."""
    return Answer(status, f"<html><head><title>{status}</title></head><body><h1>nginx</h1></body></html>\n")


@dataclass(frozen=True)
class Headers(Fault):
    """Nothing goes wrong, but some headers of the answer are others, e.g. ``{"Date": ...}``."""

    headers: Mapping[str, str]

    def happen(self, exchange: Exchange) -> bool:
        exchange.forward()
        changed = {name.lower() for name in self.headers}
        lines = exchange.answer_head().decode("latin-1").split("\r\n")[:-2]
        kept = [line for line in lines if line.partition(":")[0].lower() not in changed]
        kept += [f"{name}: {value}" for name, value in self.headers.items()]
        return exchange.pass_answer("\r\n".join([*kept, "", ""]).encode("latin-1"))
