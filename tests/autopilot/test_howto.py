"""What docs/how-to/autopilot.md says: its plan, its token and its commands, on Slurm's commands as in `fake_slurm`."""

from __future__ import annotations

import json
import re
import shlex
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.autopilot.conftest import PATIENCE_SECONDS, Site

from picas.autopilot.planfile import parse

if TYPE_CHECKING:
    from picas.autopilot.profiles import Plan

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "autopilot.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    """The page's blocks in this language."""
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def the_plan() -> tuple[str, Plan]:
    """The plan that the page shows."""
    (text,) = blocks("toml")
    return text, parse(Path("autopilot.toml"), text)


def test_the_token_of_the_page_is_for_many_cores() -> None:
    (text,) = blocks("json")
    token: dict[str, Any] = json.loads(text)
    found = the_plan()[1].profile_for("token_1", token)
    assert found is not None
    assert found.name == "MultiCore"


def test_the_settings_of_the_page_are_all_there_are() -> None:
    text = (
        the_plan()[0]
        + '[profiles.more]\nlauncher = "slurm"\nmax-queued = 1\nwork-per-pilot = "1h"\ntoken-time = 5\n'
    )
    parse(Path("autopilot.toml"), f'max-failures = 2\nwork-per-pilot = "1h"\ntoken-time = "5m"\n{text}')
    for name in (
        "launcher",
        "where",
        "run",
        "command",
        "max-pilots",
        "max-queued",
        "work-per-pilot",
        "token-time",
    ):
        assert f"`{name}`" in PAGE
    for name in ("max-pilots", "max-queued", "per-hour", "max-failures"):
        assert f"`{name}`" in PAGE


def test_the_commands_of_the_page_run(site: Site) -> None:
    site.plan(the_plan()[0])
    site.push({"input": "true"}, {"input": "true", "cores": 4, "memory": "16GB", "walltime": "3h"})
    commands = [shlex.split(line)[1:] for block in blocks("sh") for line in block.splitlines()]
    assert len(commands) == 6
    shown = site.picas.here(*commands.pop(0))
    assert (shown.code, shown.out.split("\n", 1)[0].split()[:2]) == (0, ["profile", "waiting"])
    assert "picas autopilot --once" in PAGE
    assert site.look()["started"] == 2
    site.until(lambda: site.counts()["done"] == 2)
    for command in commands:
        if command[0] == "submit":
            assert site.picas.here(*command).code == 0
        elif "--until-done" in command:
            ended = site.picas(*command)
            assert (ended.code, ended.out.rstrip().endswith("nothing is left to do, and no pilot")) == (
                0,
                True,
            )
        else:
            with site.picas.start(*command) as process:
                assert process.stdout is not None
                process.stdout.readline()
                process.send_signal(signal.SIGTERM)
                assert process.wait(PATIENCE_SECONDS) == 128 + signal.SIGTERM
