"""Templates of job scripts."""

from __future__ import annotations

import pytest

from picas.errors import InvalidInput
from picas.launchers.base import Request
from picas.launchers.filling import exports, fill, pilot_command

VALUES = {"command": ["picas run"], "cores": ["4"], "memory": [], "option": ["-x", "-y"]}


def test_a_name_becomes_its_value_wherever_it_stands() -> None:
    assert fill("{{cores}}{{ cores }} ${A} {}\n{{command}}", VALUES) == "44 ${A} {}\npicas run\n"


def test_a_line_whose_name_has_no_value_is_left_out() -> None:
    assert fill("#mem {{memory}} {{cores}}\n{{command}}\n", VALUES) == "picas run\n"


def test_a_line_whose_name_has_several_values_is_written_for_each() -> None:
    assert fill("# {{option}} of {{cores}}\n{{command}}\n", VALUES) == "# -x of 4\n# -y of 4\npicas run\n"


def test_a_value_is_not_read_as_a_template() -> None:
    assert fill("{{command}}", {"command": ["echo {{cores}}"]}) == "echo {{cores}}\n"


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("a\n{{corse}}\n{{command}}", "line 2 of the template: there is nothing called {{corse}}"),
        ("{{command", "line 1 of the template: '{{' begins no name that ends in '}}': {{command"),
        ("{{COMMAND}}", "line 1 of the template: '{{' begins no name that ends in '}}': {{COMMAND}}"),
        ("#!/bin/sh\n", "the template has no {{command}}, so its script would start no pilot"),
        ("", "the template has no {{command}}, so its script would start no pilot"),
        ("{{command}}", "the template has no {{cores}}, and cores is asked for"),
    ],
)
def test_a_mistake_in_a_template_is_told_with_its_place(template: str, message: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        fill(template, VALUES, {"cores"})
    assert refused.value.message == message
    assert refused.value.advice


def test_what_a_shell_would_read_in_the_command_is_quoted() -> None:
    request = Request(
        pool="sqlite:///x", run=("--where", "a == 'b'", "--", "echo", "$HOME"), program=("my picas",)
    )
    assert (
        pilot_command(request) == """'my picas' run --workers 1 --where 'a == '"'"'b'"'"'' -- echo '$HOME'"""
    )


def test_what_a_shell_would_read_in_the_environment_is_quoted() -> None:
    request = Request(pool="https://h/$(reboot)", environment={"PICAS_CA": "a b"})
    assert exports(request) == ["export PICAS_POOL='https://h/$(reboot)'", "export PICAS_CA='a b'"]
