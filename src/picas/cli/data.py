"""The options of ``picas run`` about data that are staged, and about containers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from picas.work.containers import RUNTIMES

if TYPE_CHECKING:
    from collections.abc import Callable

    from picas.staging.plan import Staging
    from picas.work.containers import Container

_OPTIONS = (
    click.option(
        "--stage-in",
        multiple=True,
        metavar="[PATH=]URL",
        help="Fetch a file before each token's work; with {field} in it.",
    ),
    click.option(
        "--stage-out",
        multiple=True,
        metavar="PATH=URL",
        help="Bring a file away after it; to a URL that ends in /, also several, such as '*.h5=URL/'.",
    ),
    click.option(
        "--stage-site",
        multiple=True,
        metavar="PLACE",
        help="A URL or path below which tokens may name files; it gets this user's credentials.",
    ),
    click.option(
        "--stage-command",
        metavar="CMD",
        help="Copy by this, such as 'rclone copyto {source} {destination}'.",
    ),
    click.option(
        "--stage-tries", type=click.IntRange(min=1), metavar="N", help="How often a file is tried; 5."
    ),
    click.option(
        "--container",
        metavar="IMAGE",
        help="Run commands in an image.sif with Apptainer, or a docker-image with Docker.",
    ),
    click.option(
        "--container-option",
        multiple=True,
        metavar="OPTION",
        help="An option of Apptainer or Docker, in one word, such as --container-option=--nv.",
    ),
    click.option(
        "--container-runtime", type=click.Choice(RUNTIMES), help="What runs the container; what there is."
    ),
)

_SEVERAL = ("stage_in", "stage_out", "stage_site", "container_option")


def options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command all of them."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def read(knobs: dict[str, Any], given: dict[str, Any], settings: Any) -> None:
    """Put what they amount to among a pilot's choices, in place of them.

    Args:
        knobs: of the command line and of the file; changed.
        given: of the command line.
        settings: of the file.

    Raises:
        InvalidInput: one of them cannot be used.
    """
    several = {name: (*settings.get(name, ()), *given[name]) for name in _SEVERAL}
    taken = {name: knobs.pop(name) for name in (*_SEVERAL, "stage_command", "stage_tries")}
    image, runtime = knobs.pop("container"), knobs.pop("container_runtime")
    if any(several[name] for name in _SEVERAL[:3]) or taken["stage_command"] or taken["stage_tries"]:
        knobs["staging"] = _staging(several, taken["stage_command"], taken["stage_tries"])
    if image:
        knobs["container"] = _container(image, several["container_option"], runtime or "")


def _staging(several: dict[str, tuple[str, ...]], command: str | None, tries: int | None) -> Staging:
    from picas.staging.plan import TRIES, Staging  # noqa: PLC0415 - most pilots stage nothing

    return Staging(
        several["stage_in"],
        several["stage_out"],
        several["stage_site"],
        command,
        TRIES if tries is None else tries,
    )


def _container(image: str, options: tuple[str, ...], runtime: str) -> Container:
    from picas.work.containers import Container  # noqa: PLC0415 - start-up

    return Container(image, options, runtime)
