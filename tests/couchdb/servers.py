"""CouchDB servers of our own: a single one, a cluster, and PouchDB's server where there is no CouchDB.

They listen on the loopback interface only and keep what they store in a temporary folder.

    with CouchServer() as server:
        print(server.url)                      # http://admin:...@127.0.0.1:23456
        server.kill(); server.start()          # the same port, the same data
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.couchdb.processes import Server, ask

ADMIN = "admin"

# Hashing a password as slowly as a public server should would cost more than the requests of the tests.
_ITERATIONS = 10

_VM_ARGS = """\
-kernel error_logger silent
-sasl sasl_error_logger false
+SDio 4
+S 2:2
+sbwt none
+sbwtdcpu none
+sbwtdio none
+Bd -noinput
-ssl session_lifetime 300
-os_mon start_cpu_sup false
-os_mon start_memsup false
-os_mon disk_space_check_interval 5
-os_mon disk_almost_full_threshold 1.0
"""

Settings = Mapping[str, Mapping[str, Any]]


def couchdb_home() -> Path | None:
    """Where Apache CouchDB is installed: ``$COUCHDB_HOME``, or where its packages put it; None for nowhere."""
    home = Path(os.environ.get("COUCHDB_HOME") or "/opt/couchdb")
    return home if (home / "bin" / "couchdb").exists() else None


class DatabaseServer(Server):
    """What speaks the protocol of CouchDB, with an administrator or for anybody."""

    username = ADMIN
    password = ""

    @property
    def origin(self) -> str:
        """The URL without credentials."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """The URL with the administrator's credentials, where there is one."""
        login = f"{self.username}:{self.password}@" if self.password else ""
        return f"http://{login}127.0.0.1:{self.port}"

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """One request as the administrator: status and JSON. See `processes.ask`."""
        return ask(self.url, method, path, body)


class GivenServer:
    """A server that runs already and is not ours to stop.

    Args:
        url: with an administrator's credentials, and without a database.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        parts = urlsplit(self.url)
        self.origin = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """One request as the administrator: status and JSON. See `processes.ask`."""
        return ask(self.url, method, path, body)


class CouchServer(DatabaseServer):
    """A private Apache CouchDB, single node.

    Args:
        settings: sections of its ini file, over those that it has here, e.g.
            ``{"couchdb": {"max_document_size": 100_000}}``.
        name: what it is called in messages.

    A wrong password locks its user out for five minutes after five tries: take a random user for such a test.
    """

    def __init__(self, settings: Settings | None = None, *, name: str = "couchdb") -> None:
        home = couchdb_home()
        assert home is not None, "there is no Apache CouchDB here"
        self._home = home
        super().__init__(name)
        self.password = secrets.token_hex(12)
        self._changes = settings or {}

    def command(self) -> list[str]:
        return [str(self._home / "bin" / "couchdb")]

    def environment(self) -> dict[str, str]:
        environment = {
            name: value
            for name, value in super().environment().items()
            if not name.startswith(("ERL_", "COUCHDB_"))
        }
        return {
            **environment,
            "COUCHDB_ARGS_FILE": str(self.folder / "vm.args"),
            # the last file is the one that the server itself writes to
            "COUCHDB_INI_FILES": f"{self._home / 'etc' / 'default.ini'} {self.folder / 'local.ini'}",
            "ERL_CRASH_DUMP": str(self.folder / "erl_crash.dump"),
        }

    def vm_args(self) -> str:
        return _VM_ARGS

    def settings(self) -> dict[str, dict[str, Any]]:
        """The sections of the ini file."""
        data = self.folder / "data"
        return {
            "couchdb": {
                "uuid": secrets.token_hex(16),
                "database_dir": data,
                "view_index_dir": data,
                "single_node": "true",
            },
            "smoosh": {"state_dir": data},
            "cluster": {"q": 2, "n": 1},
            "chttpd": {"bind_address": "127.0.0.1", "port": self.port},
            "chttpd_auth": {"secret": secrets.token_hex(16), "iterations": _ITERATIONS},
            "log": {"writer": "file", "file": self.log_path, "level": "info"},
            "admins": {self.username: hashed(self.password)},
        }

    def write_files(self) -> None:
        (self.folder / "data").mkdir()
        sections = self.settings()
        for section, values in self._changes.items():
            sections.setdefault(section, {}).update(values)
        text = "\n".join(
            f"[{section}]\n" + "".join(f"{key} = {value}\n" for key, value in values.items())
            for section, values in sections.items()
        )
        (self.folder / "local.ini").write_text(text)
        (self.folder / "vm.args").write_text(self.vm_args())

    def ready(self) -> bool:
        # the system databases come a moment after the server says that it is up
        return self.ask("GET", "/_up")[0] == 200 and self.ask("GET", "/_replicator")[0] == 200


class PouchServer(DatabaseServer):
    """PouchDB's server: speaks most of the protocol, to anybody, and installs wherever Node.js is.

    It has no ``_local_docs``, dies of ``filter=_selector``, and has no administrator here.
    """

    def __init__(self) -> None:
        assert pouchdb_program() is not None, "pouchdb-server is not installed: scripts/pouchdb.sh"
        super().__init__("pouchdb")

    def command(self) -> list[str]:
        node = shutil.which("node")
        program = pouchdb_program()
        assert node is not None
        assert program is not None
        data = self.folder / "data"
        return [
            *(node, str(program)),
            *("--host", "127.0.0.1", "--port", str(self.port)),
            *("--dir", str(data), "--config", str(self.folder / "config.json")),
        ]

    def write_files(self) -> None:
        (self.folder / "data").mkdir()

    def ready(self) -> bool:
        return self.ask("GET", "/")[0] == 200


def pouchdb_program() -> Path | None:
    """What starts PouchDB's server, where ``scripts/pouchdb.sh`` has installed it and there is Node.js."""
    program = Path(__file__).parent / "node_modules" / "pouchdb-server" / "bin" / "pouchdb-server"
    return program if program.exists() and shutil.which("node") else None


def hashed(password: str) -> str:
    """A password as CouchDB stores it: it then has no need to rewrite its ini file."""
    salt = secrets.token_hex(8)
    key = hashlib.pbkdf2_hmac("sha256", password.encode(), salt.encode(), _ITERATIONS, 32)
    return f"-pbkdf2:sha256-{key.hex()},{salt},{_ITERATIONS}"
