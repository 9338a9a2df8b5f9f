"""A worker node that has next to nothing: ``python node.py PORT FOLDER COMMAND...`` runs a command on one.

The network is its own loopback, on which one port leads to the same port of the machine outside, where the pool is;
``/tmp`` and ``/var/tmp`` are full; FOLDER is seen at ``/mnt``, where the command starts. The environment is what
the caller's is. It takes Linux and root, or the right to make namespaces: else the exit code is `NOT_ALLOWED`.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path

NOT_ALLOWED = 199
PLACE = "/mnt"

_NEWNS, _NEWNET = 0x00020000, 0x40000000  # sched.h
_REC_PRIVATE, _BIND = 0x4000 | 1 << 18, 0x1000  # sys/mount.h
_GET_FLAGS, _SET_FLAGS, _UP = 0x8913, 0x8914, 1  # linux/sockios.h, linux/if.h

_libc = ctypes.CDLL(None, use_errno=True)


def _call(name: str, *args: object) -> None:
    if getattr(_libc, name)(*args):
        raise OSError(ctypes.get_errno(), name)


def _mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    _call("mount", source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), data.encode())


def enter(port: int, folder: str) -> socket.socket:
    """Leave the machine's network and temporary folders for those of a node; the port that leads outside."""
    _call("unshare", _NEWNS | _NEWNET)
    _mount("none", "/", flags=_REC_PRIVATE)
    _mount(folder, PLACE, flags=_BIND)
    for full in ("/tmp", "/var/tmp"):
        _mount("tmpfs", full, "tmpfs", data="size=4k")
        Path(full, "full").write_bytes(b"x" * 4096)
    with socket.socket() as any_socket:
        flags = fcntl.ioctl(any_socket, _GET_FLAGS, struct.pack("16sh14x", b"lo", 0))
        up = struct.unpack("16sh14x", flags)[1] | _UP
        fcntl.ioctl(any_socket, _SET_FLAGS, struct.pack("16sh14x", b"lo", up))
    return socket.create_server(("127.0.0.1", port))


def _pump(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        source.close()
        target.close()


def _relay(listener: socket.socket, port: int) -> None:
    """Lead each connection that is made on the node to the machine outside."""
    while True:
        inner = listener.accept()[0]
        outer = socket.create_connection(("127.0.0.1", port))
        for pair in ((inner, outer), (outer, inner)):
            threading.Thread(target=_pump, args=pair, daemon=True).start()


def main() -> int:
    """Run the command; its exit code."""
    port, folder, command = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
    ours, theirs = socket.socketpair()
    child = os.fork()
    if child == 0:
        try:
            listener = enter(port, folder)
        except OSError as error:
            print(f"no node here: {error}", file=sys.stderr)
            os._exit(NOT_ALLOWED)
        socket.send_fds(theirs, [b"."], [listener.fileno()])
        os._exit(subprocess.run(command, cwd=PLACE, check=False).returncode)
    theirs.close()
    found = socket.recv_fds(ours, 1, 1)[1]
    if found:
        # a socket stays in the network where it was made, whoever has it
        listener = socket.socket(fileno=found[0])
        threading.Thread(target=_relay, args=(listener, port), daemon=True).start()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    sys.exit(main())
