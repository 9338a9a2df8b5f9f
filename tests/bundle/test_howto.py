"""What the page on bundles says is so."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.bundle.node import (
    ACTOR,
    FIT,
    MEASURE,
    PATIENCE_SECONDS,
    Node,
)

if TYPE_CHECKING:
    from tests.cli.conftest import Shell


PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "bundle.md"

NOT_RUN = {
    "picas bundle --python 3.9 -o pilot.pyz": "it may ask a package index; another test does it with wheels in a folder",
}
"""Commands of the page that are not run here, and why."""


@pytest.mark.couchdb
@pytest.mark.slow
def test_the_commands_of_the_page_do_what_it_says(
    picas: Shell, node: Node, database: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("page")
    for name, text in (
        ("fit.py", FIT),
        ("actor.py", ACTOR.replace("sys.argv[1:3]", f"({picas.pool!r}, 'x')")),
    ):
        (folder / name).write_text(text.replace("sys.argv[3:]", "[]"), "utf-8")
    (folder / "measure.sh").write_text(MEASURE, "utf-8")
    (folder / "measure.sh").chmod(0o755)
    (folder / "tables").mkdir()
    (folder / "tables" / "numbers.txt").write_text("40 2\n", "utf-8")
    login, _, address = database.partition("//")[2].rpartition("@")
    user, _, password = login.partition(":")
    settings = f'pool = "http://{address}"\n[couchdb]\nusername = "{user}"\npassword = "{password}"\n'
    (folder / "ca.pem").write_text("", "utf-8")
    (folder / "config.toml").write_text(settings, "utf-8")
    (folder / "config.toml").chmod(0o600)
    commands = re.findall(r"^\$ (.*)$", PAGE.read_text("utf-8"), re.MULTILINE)
    assert set(NOT_RUN) <= set(commands)
    own = {
        **node.environment,
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "PICAS_POOL": picas.pool,
    }
    picas.write("tokens.txt", "2\n3\n")
    picas("push", "tokens.txt")
    for command in commands:
        if command in NOT_RUN:
            continue
        if "actor.py" in command:
            picas("reset", "--yes")
        if "couch.example.org" in command:
            own.pop("PICAS_POOL")
            command = command.replace("https://couch.example.org:6984/pool", f"http://{address}")  # noqa: PLW2901
        ended = subprocess.run(
            ["sh", "-c", command],
            cwd=folder,
            env=own,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        assert ended.returncode == 0, (command, ended.stdout, ended.stderr)
    assert picas("show", "token_0", "--json").json["done"] > 0
