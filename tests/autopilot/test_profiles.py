"""Which pilots people offer, and for which tokens they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.autopilot.plans import PATH, THREE_KINDS, plan_of

from picas.autopilot.needs import FIELDS, Need, body_of, need_of
from picas.autopilot.planfile import parse, read
from picas.autopilot.profiles import Limits, words_of
from picas.errors import ConfigError
from picas.selection import Selection

ONE = '[profiles.A]\nlauncher = "slurm"\n'


@pytest.mark.parametrize(
    ("body", "need"),
    [
        ({}, Need()),
        ({"cores": 4, "gpus": 2, "memory": "4GB", "walltime": "1h30m"}, Need(4, 2, 4 * 10**9, 5400.0)),
        ({"cores": "4", "memory": 1000, "walltime": 90}, Need(4, 0, 1000, 90.0)),
        ({"cores": 0, "gpus": -1, "memory": "much", "walltime": "long"}, Need()),
        ({"cores": None, "gpus": [], "memory": True, "walltime": {}}, Need()),
        ({"cores": 2.5, "memory": -4, "walltime": -1}, Need()),
        ({"memory": 10**400}, Need()),
    ],
)
def test_what_a_token_says_that_it_needs(body: dict[str, Any], need: Need) -> None:
    assert need_of(body) == need


def test_a_body_is_put_together_of_values() -> None:
    fields = (("cores",), ("input",), ("input", "q"), ("a", "b"), ("a", "c"), ("_id",))
    values = (None, {"q": 5, "r": 6}, 5, 1, None, "token_1")
    assert body_of(fields, values) == ("token_1", {"input": {"q": 5, "r": 6}, "a": {"b": 1}})


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ({}, "SingleCore"),
        ({"memory": "4GB", "walltime": "3h"}, "SingleCore"),
        ({"memory": "4.1GB"}, "MultiCore"),
        ({"walltime": "4h"}, "MultiCore"),  # a pilot needs some of its 4 h for itself
        ({"cores": 8, "memory": "64GB", "walltime": "1d"}, "MultiCore"),
        ({"cores": 4, "memory": "32GB"}, "MultiCore"),
        ({"cores": 4, "memory": "33GB"}, None),  # two of them at a time would not fit
        ({"cores": 9}, None),
        ({"gpus": 1}, "gpu"),
        ({"gpus": 1, "memory": "900GB", "walltime": "90d"}, "gpu"),  # nothing is said of these
        ({"gpus": 1, "site": "far"}, None),
        ({"gpus": 2}, None),
    ],
)
def test_a_token_is_for_the_first_kind_that_has_what_it_needs(body: dict[str, Any], name: str | None) -> None:
    plan = plan_of(THREE_KINDS)
    assert plan.fields == (*FIELDS, ("site",))
    found = plan.profile_for("token_1", body)
    assert (found.name if found else None) == name
    assert plan.profile_of([body.get(path[0]) for path in plan.fields]) == found


@pytest.mark.parametrize("cores", [1, 2, 3, 4, 5, 7, 8, 9, 100])
@pytest.mark.parametrize(
    "memory", [None, 1, "8GB", "8.1GB", "31GB", "40GB", "60GB", "64GB", "65GB", "x", True]
)
@pytest.mark.parametrize("gpus", [0, 1])
def test_pilots_take_the_tokens_that_are_for_them(cores: int, memory: Any, gpus: int) -> None:
    """But for those with too many cores or too much time, which a pilot tells by itself."""
    profile = plan_of(THREE_KINDS).profiles[1]
    body = {"cores": cores, "memory": memory, "gpus": gpus}
    taken = Selection.parse(profile.taken).matches("token_1", body) and cores <= profile.cores
    assert taken == profile.takes("token_1", body)


def test_the_condition_of_a_pilot_can_be_read() -> None:
    single, _, gpu = plan_of(THREE_KINDS).profiles
    assert single.taken == "not gpus > 0 and not (size(memory) > 4000000000)"
    assert gpu.taken == "(gpus > 0 and site != 'far') and not gpus > 1"


@pytest.mark.parametrize("signal", ["", 'signal = "USR1@10m"'])
def test_a_pilot_keeps_some_of_its_time_for_itself(signal: str) -> None:
    profile = plan_of(f'{ONE}time = "1h"\n{signal}').profiles[0]
    needed = 60 + (600 if signal else 30)
    assert profile.has(Need(walltime=3600 - needed))
    assert not profile.has(Need(walltime=3600 - needed + 1))


def test_what_is_submitted_for_a_kind() -> None:
    profile = plan_of(
        """
        [profiles.fit]
        launcher = "slurm"
        cores = 4
        partition = "normal"
        module = ["python", "gcc/12"]
        option = "--qos=low"
        template = "my.sh"
        where = "kind == 'fit'"
        run = ["--max-scrub", "2"]
        command = ["./fit", "{input}"]
        max-pilots = 3
        """
    ).profiles[0]
    assert profile.submit_words(5) == [
        "--name=picas-fit",
        "--cores=4",
        "--partition=normal",
        "--module=python",
        "--module=gcc/12",
        "--option=--qos=low",
        "--template=/data/my.sh",
        "--directory=/data",
        "--profile=fit",
        "--pilots=5",
        "--",
        "--max-scrub",
        "2",
        "--where=(kind == 'fit') and not gpus > 0",
        "--",
        "./fit",
        "{input}",
    ]
    assert "--cores=4" not in profile.submit_words(5, {"cores"})


def test_true_is_an_option_alone_and_false_is_none() -> None:
    words = plan_of(f'{ONE}verbose = true\nquiet = false\ndirectory = "~/x"').profiles[0].submit_words(1)
    assert words[1:3] == ["--verbose", f"--directory={Path.home()}/x"]


def test_limits() -> None:
    assert plan_of(ONE).limits == Limits(100, None, None, 3)
    plan = plan_of(f"max-pilots = 5\nmax-queued = 2\nper-hour = 9\nmax-failures = 1\n{ONE}")
    assert plan.limits == Limits(5, 2, 9, 1)
    assert plan.within(pilots=0, queued=None, per_hour=3).limits == Limits(0, 2, 3, 1)


def test_settings_for_all_kinds_stand_above_them() -> None:
    plan = plan_of(
        f'work-per-pilot = "2h"\ntoken-time = 60\n{ONE}[profiles.B]\nlauncher = "pbs"\ntoken-time = 5'
    )
    assert [(each.work_per_pilot, each.token_time) for each in plan.profiles] == [(7200, 60), (7200, 5)]
    assert plan_of(ONE).profiles[0].work_per_pilot == 900


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "offers no pilots"),
        ("[profiles]", "offers no pilots"),
        ("profiles = 5", "offers no pilots"),
        ("max-pilot = 5\n" + ONE, "there is no setting 'max-pilot'"),
        ("max-pilots = 0\n" + ONE, "'max-pilots' must be a whole number of at least 1, not 0"),
        ("per-hour = true\n" + ONE, "'per-hour' must be a whole number"),
        ("profiles.A = 5", "'profiles.A' must be a table"),
        ("[profiles.A]\ncores = 4", "'profiles.A.launcher' is missing"),
        ('[profiles."a b"]\nlauncher = "slurm"', "'a b' is no name"),
        (ONE + "cores = 0", "'profiles.A.cores' must be a whole number of at least 1"),
        (ONE + 'memory = "much"', "'profiles.A.memory' must be a size"),
        (ONE + 'time = "long"', "'profiles.A.time' must be a time"),
        (ONE + "time = 0", "'profiles.A.time' must be a time"),
        (ONE + 'where = "cores = 4"', "'profiles.A.where': the condition is not understood"),
        (ONE + "where = 5", "'profiles.A.where' must be text"),
        (ONE + 'run = "--wait"', "'profiles.A.run' must be a list of strings"),
        (ONE + "run = ['--where=x']", "'profiles.A.run' has --where=x"),
        (ONE + "run = ['--wait']", "Pilots have to leave"),
        (ONE + "pilots = 5", "'profiles.A.pilots' is not for this file"),
        (ONE + "module = {a = 1}", "'profiles.A.module' must be text, a number"),
        (ONE + 'signal = "NONE@5"', "'profiles.A.signal' must be a signal"),
        ("[profiles.A", "cannot be read"),
    ],
)
def test_mistakes_are_told_with_their_place(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(PATH, text)
    assert str(PATH) in caught.value.message
    assert said in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing\.toml cannot be read"):
        read(tmp_path / "nothing.toml")


def test_needs_in_words() -> None:
    assert words_of(Need()) == "cores=1"
    assert words_of(Need(64, 2, 512 * 10**9, 5400)) == "cores=64 gpus=2 memory=512GB walltime=1.5h"
