"""The picture of the layers in the documentation is the one that its text tells."""

from __future__ import annotations

import importlib.util
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
TEXT = ROOT / "docs" / "images" / "layers.txt"
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def draw() -> Any:
    """The program that draws it."""
    path = ROOT / "scripts" / "draw.py"
    spec = importlib.util.spec_from_file_location("draw", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "draw", module)  # where dataclasses look
        spec.loader.exec_module(module)
    return module


def test_the_picture_is_drawn_from_the_text_as_it_is(draw: Any) -> None:
    drawn = draw.draw(draw.read(TEXT.read_text("utf-8")))
    advice = "python scripts/draw.py docs/images/layers.txt docs/images/layers.svg"
    assert TEXT.with_suffix(".svg").read_text("utf-8") == drawn, advice


def test_every_line_of_the_text_is_in_the_picture() -> None:
    picture = ET.parse(TEXT.with_suffix(".svg")).getroot()
    words = [each.text for each in picture.iter(f"{SVG}text")]
    told = [line.strip() for line in TEXT.read_text("utf-8").splitlines() if line.startswith(" ")]
    assert words == told


def test_a_line_that_means_nothing_is_told(draw: Any) -> None:
    with pytest.raises(ValueError, match="line 2: circle a 0 0"):
        draw.read("box a 0 0\ncircle a 0 0\n")
