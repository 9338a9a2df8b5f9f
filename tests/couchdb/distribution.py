"""The network between the nodes of a test cluster, which can be cut. A program of its own, on loopback only.

Erlang nodes ask the port mapper daemon (epmd) of the other node's host where that node listens. All nodes of
a test cluster are on one host, but each is told of a port mapper of its own, here, and this one answers with
the port of a proxy: there is one for every ordered pair of nodes. So all that two nodes say to each other
passes through here, and no right to change the machine's network is needed.

    python distribution.py NODE...

First it prints a line of JSON: node name -> port of its port mapper. Then it reads commands, a line each, and
answers each with a line "ok". It ends when its input does.

    silence A B    what A and B say to each other is kept back, as when a cable is pulled: they notice after
                   Erlang's net_ticktime only
    cut A B        their connections are closed and new ones too, as with a firewall: they notice at once
    mend           all links pass everything again, what was kept back first
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import struct
import sys
import time
from typing import Any

HOST = "127.0.0.1"
CHUNK_BYTES = 65_536

# The requests and answers of the port mapper's protocol (erts, "Distribution Protocol")
_ALIVE2_REQ, _PORT_PLEASE2_REQ = 120, 122
_ALIVE2_X_RESP, _PORT2_RESP = 118, 119
_NORMAL_NODE, _TCP, _NEWEST, _OLDEST = 77, 0, 6, 5


class Link:
    """What two nodes, in both directions, say to each other."""

    def __init__(self) -> None:
        self.audible = asyncio.Event()
        self.audible.set()
        self.closed = False
        self.writers: set[asyncio.StreamWriter] = set()

    def silence(self) -> None:
        self.audible.clear()

    def cut(self) -> None:
        self.closed = True
        for writer in self.writers:
            writer.transport.abort()

    def mend(self) -> None:
        self.closed = False
        self.audible.set()


class Network:
    """The port mappers of all nodes and the proxies between them."""

    def __init__(self, names: list[str]) -> None:
        self.names = names
        self.links = {frozenset((a, b)): Link() for a in names for b in names if a != b}
        self.real: dict[str, int | None] = dict.fromkeys(names)
        """Where a node listens, as long as it is alive."""
        self.proxies: dict[tuple[str, str], int] = {}
        self.mappers: dict[str, int] = {}
        # tells one life of a node from the next; the first ones have a meaning of their own
        self._creations = itertools.count(int(time.time()))
        self._servers: list[asyncio.AbstractServer] = []

    async def start(self) -> None:
        for name in self.names:
            self.mappers[name] = await self._listen(self._mapper(name))
            for other in self.names:
                if other != name:
                    self.proxies[name, other] = await self._listen(self._proxy(name, other))

    async def _listen(self, serve: Any) -> int:
        server = await asyncio.start_server(serve, HOST, 0)
        self._servers.append(server)
        port: int = server.sockets[0].getsockname()[1]
        return port

    # the port mapper

    def _mapper(self, of: str) -> Any:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(asyncio.IncompleteReadError, OSError):
                (length,) = struct.unpack(">H", await reader.readexactly(2))
                request = await reader.readexactly(length)
                if request[0] == _ALIVE2_REQ:
                    await self._register(of, request, reader, writer)
                elif request[0] == _PORT_PLEASE2_REQ:
                    writer.write(self._where(of, request[1:].decode()))
                    await writer.drain()
            writer.close()

        return serve

    async def _register(
        self, name: str, request: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """A node says where it listens. It is alive as long as it keeps this connection."""
        (port,) = struct.unpack(">H", request[1:3])
        self.real[name] = port
        writer.write(struct.pack(">BBI", _ALIVE2_X_RESP, 0, next(self._creations)))
        await writer.drain()
        await reader.read()
        if self.real[name] == port:  # it may have started again, and said so, before this was read
            self.real[name] = None

    def _where(self, asker: str, name: str) -> bytes:
        port = self.real.get(name)
        if asker != name and port is not None:
            port = None if self._link(asker, name).closed else self.proxies[asker, name]
        if port is None:
            return struct.pack(">BB", _PORT2_RESP, 1)
        head = struct.pack(">BBHBBHH", _PORT2_RESP, 0, port, _NORMAL_NODE, _TCP, _NEWEST, _OLDEST)
        return head + struct.pack(">H", len(name)) + name.encode() + struct.pack(">H", 0)

    def _link(self, a: str, b: str) -> Link:
        return self.links[frozenset((a, b))]

    # the proxies

    def _proxy(self, source: str, target: str) -> Any:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            link = self._link(source, target)
            await link.audible.wait()
            port = self.real[target]
            if link.closed or port is None:
                writer.transport.abort()
                return
            try:
                far_reader, far_writer = await asyncio.open_connection(HOST, port)
            except OSError:
                writer.transport.abort()
                return
            link.writers |= {writer, far_writer}
            try:
                await asyncio.gather(
                    _copy(link, reader, far_writer), _copy(link, far_reader, writer), return_exceptions=True
                )
            finally:
                link.writers -= {writer, far_writer}

        return serve

    # the commands

    def do(self, line: str) -> None:
        command, *nodes = line.split()
        if command == "mend":
            for link in self.links.values():
                link.mend()
        else:
            link = self._link(*nodes)
            {"silence": link.silence, "cut": link.cut}[command]()


async def _copy(link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass on what one side says, and that it has gone."""
    try:
        while True:
            data = await reader.read(CHUNK_BYTES)
            await link.audible.wait()
            if not data:
                break
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()


async def main(names: list[str]) -> None:
    """Serve until the input ends, and with it the program."""
    network = Network(names)
    await network.start()
    print(json.dumps(network.mappers), flush=True)
    loop = asyncio.get_running_loop()
    while True:
        line = await loop.run_in_executor(None, sys.stdin.readline)
        if not line:
            os._exit(0)  # who speaks here has gone, and an orderly end of all connections would take longer
        network.do(line)
        print("ok", flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
