"""wire.py URL VIEW CLIENTS TOKENS LOG_BYTES: how fast a pool can be worked off at all, with nothing of PiCaS.

CLIENTS connections in one process do nothing else than walk: 100 free tokens from one's own last key,
`_bulk_docs` to lock them, `_bulk_docs` to finish them with a log inline; no spool, no retry, no order.

Says ``ready``, waits for the end of its input, runs until TOKENS are finished, and prints a JSON object.
"""

import asyncio
import base64
import json
import random
import sys
import time
from urllib.parse import quote, unquote, urlsplit

BATCH = 100
FRONT, END = ["todo"], quote('["todo",{}]')

PATIENCE = 100
"""After so many reads in a row that found nothing free, the rest must have been lost: an error."""


class Connection:
    """One kept-alive connection: a request, then its whole answer."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port, self._path = parts.hostname, parts.port or 80, parts.path
        login = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
        self._head = f"Host: {self._host}\r\nContent-Type: application/json\r\n"
        if parts.username:
            self._head += f"Authorization: Basic {base64.b64encode(login.encode()).decode()}\r\n"

    async def open(self) -> "Connection":
        """Connect."""
        self._reader, self._writer = await asyncio.open_connection(self._host, self._port, limit=1 << 24)
        return self

    async def ask(self, method: str, path: str, value: object = None) -> object:
        """The JSON that answers a request; any status that is no success ends the script."""
        body = b"" if value is None else json.dumps(value, separators=(",", ":")).encode()
        head = f"{method} {self._path}/{path} HTTP/1.1\r\n{self._head}Content-Length: {len(body)}\r\n\r\n"
        self._writer.write(head.encode() + body)
        answer = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        status = int(answer.split(b" ", 2)[1])
        if b"transfer-encoding: chunked" in answer:
            data = b"".join([piece async for piece in self._chunks()])
        else:
            data = await self._reader.readexactly(int(answer.split(b"content-length:")[1].split(b"\r\n")[0]))
        if status >= 300:
            raise SystemExit(f"{method} {path}: {status} {data[:300]!r}")
        return json.loads(data)

    async def _chunks(self):
        while size := int(await self._reader.readuntil(b"\r\n"), 16):
            yield (await self._reader.readexactly(size + 2))[:-2]
        await self._reader.readexactly(2)

    def close(self) -> None:
        """Hang up."""
        self._writer.close()


class Run:
    """What the clients share."""

    def __init__(self, view: str, tokens: int, log: bytes) -> None:
        self.view = view
        self.tokens = tokens
        self.log = base64.b64encode(log).decode()
        self.finished = self.tried = self.lost = 0
        self.last = 0.0

    async def walk(self, connection: Connection, *, alone: bool) -> None:
        """One client, until all tokens are finished."""
        key, docid, fresh, vain = (FRONT if alone else self._anywhere()), "", False, 0
        while self.finished < self.tokens:
            query = (
                f"startkey={quote(json.dumps(key))}&startkey_docid={quote(docid)}&endkey={END}&limit={BATCH}"
            )
            query += "&include_docs=true&reduce=false" + ("" if fresh else "&update=false")
            rows = (await connection.ask("GET", f"{self.view}?{query}"))["rows"]
            free = [row["doc"] for row in rows if row["doc"]["lock"] == 0]
            won = await self._lock(connection, free) if free else []
            if won:
                await self._finish(connection, won)
            vain = 0 if won else vain + 1
            if vain > PATIENCE:
                raise SystemExit(f"{self.tokens - self.finished} tokens are not to be found")
            fresh = len(rows) < BATCH  # the end: again from the front, by an index that knows all
            if fresh:
                key, docid = FRONT, ""
            elif len(won) * 3 < len(rows) * 2:
                key, docid = self._anywhere(), ""
            else:
                key, docid = rows[-1]["key"], rows[-1]["id"]

    def _anywhere(self) -> list:
        return [*FRONT, 0, random.randrange(self.tokens)]

    async def _lock(self, connection: Connection, docs: list) -> list:
        now = int(time.time())
        for doc in docs:
            run = {"claim": random.randbytes(12).hex(), "host": "wire", "claimed": now}
            doc.update(lock=now, hostname="wire", picas={**doc.get("picas", {}), "run": run})
        answers = await connection.ask("POST", "_bulk_docs", {"docs": docs})
        won = []
        for doc, answer in zip(docs, answers):
            if answer.get("ok"):
                doc["_rev"] = answer["rev"]
                won.append(doc)
        self.tried += len(docs)
        self.lost += len(docs) - len(won)
        return won

    async def _finish(self, connection: Connection, docs: list) -> None:
        now = int(time.time())
        for doc in docs:
            log = {"content_type": "text/plain", "data": self.log}
            doc.update(done=now, exit_code=0, _attachments={f"logs_{doc['_id']}.out": log})
        answers = await connection.ask("POST", "_bulk_docs", {"docs": docs})
        self.finished += sum(1 for answer in answers if answer.get("ok"))
        self.last = time.monotonic()


async def main() -> None:
    """Run all clients."""
    url, view, clients, tokens, log = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])
    connections = [await Connection(url).open() for _ in range(clients)]
    run = Run(view, tokens, b"x" * log)
    print("ready", flush=True)
    sys.stdin.read()
    await asyncio.gather(*(run.walk(each, alone=clients == 1) for each in connections))
    for each in connections:
        each.close()
    print(json.dumps({"last": run.last, "done": run.finished, "tried": run.tried, "lost": run.lost}))


if __name__ == "__main__":
    asyncio.run(main())
