"""Parameter sweeps: every combination of ``q=0.1:0.9:0.1`` and ``d=256,512`` is a token."""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

from picas.errors import InvalidInput
from picas.text.template import as_text, compiled
from picas.tokenfile.draft import Draft, check_field, check_fields, value_of_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Callable

SWEEP = "--sweep"
"""What drafts of a sweep name as their source."""

MAX_POINTS = 10_000_000
"""Tokens in one sweep; more is a mistake in a step."""

MAX_EXPONENT = 300
"""Of a number in a range, on both sides: beyond it is no floating-point number."""

_FORM = "Write it as NAME=FROM:TO:STEP or NAME=VALUE,VALUE,… for instance q=0.1:0.9:0.1 or d=256,512"


@dataclass(frozen=True)
class Range:
    """Numbers at equal distances, both ends included: ``(start + i * step) / scale`` for i up to ``count``.

    Counted in whole numbers, so that the third of 0.1, 0.2, … is 0.3 and not 0.30000000000000004.
    """

    start: int
    step: int
    count: int
    scale: int

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int | float]:
        for number in range(self.start, self.start + self.step * self.count, self.step):
            yield number if self.scale == 1 else number / self.scale


@dataclass(frozen=True)
class Axis:
    """One parameter: its name and its values, in parts that are listed or counted."""

    name: str
    parts: tuple[Range | tuple[Any], ...]

    def __len__(self) -> int:
        return sum(len(part) for part in self.parts)

    def __iter__(self) -> Iterator[Any]:
        for part in self.parts:
            yield from part


class Sweep:
    """The drafts of every combination of some parameters; the last parameter changes fastest.

    Args:
        specs: one per parameter. ``q=0.1:0.9:0.1`` counts from the first number to the second, both included,
            by the third, in exact decimal steps: without a decimal point all are integers. ``d=256,512`` lists
            values, which are numbers, ``true``, ``false`` or strings as in a table; a range may stand among
            them.
        template: makes the ``input`` of each token from its fields (see `picas.text.template`). None: the
            parameters as they are, ``q=0.1 d=256``.
        fields: fields for every token.

    Attributes:
        source: ``--sweep``, for messages.
        size: how many drafts there are.
        position: how many of them the newest iteration has given.

    Raises:
        InvalidInput: a parameter is not understood, or there are more than `MAX_POINTS` combinations.

    Example:
        >>> [draft.fields["input"] for draft in Sweep(["q=0.1:0.3:0.1", "d=256"], template="draw {q} {d}")]
        ['draw 0.1 256', 'draw 0.2 256', 'draw 0.3 256']
    """

    def __init__(
        self, specs: Sequence[str], *, template: str | None = None, fields: Mapping[str, Any] | None = None
    ) -> None:
        self.source = SWEEP
        self.position = 0
        self._axes = [_axis(spec) for spec in specs]
        self._names = [axis.name for axis in self._axes]
        self._fields = dict(fields or {})
        self._template = None if template is None else compiled(template)
        check_fields(self._fields)
        for number, name in enumerate(self._names):
            if name in self._names[:number] or name in self._fields:
                raise InvalidInput(
                    f"{SWEEP}: '{name}' is given twice", "Give it once, with all of its values."
                )
        self.size = math.prod(len(axis) for axis in self._axes) if self._axes else 0
        if not self._axes:
            raise InvalidInput(f"{SWEEP}: there is no parameter", _FORM)
        if self.size > MAX_POINTS:
            raise InvalidInput(
                f"{SWEEP}: these are {self.size:,} tokens, more than {MAX_POINTS:,}", "Take larger steps."
            )

    def __iter__(self) -> Iterator[Draft]:
        self.position = 0
        for number, values in enumerate(_product(self._axes), 1):
            fields = dict(zip(self._names, values))
            fields.update(self._fields)
            if self._template is not None:
                fields["input"] = self._template.render(fields)
            elif "input" not in fields:
                fields["input"] = " ".join(f"{name}={as_text(fields[name])}" for name in self._names)
            self.position = number
            yield Draft(fields, None, SWEEP, number)

    def check(self, each: Callable[[Draft], None] | None = None) -> int:
        """Make every draft once; see `DraftSource.check`. What is wrong with one is wrong with all.

        Raises:
            InvalidInput: the template names something that is not there, or what ``each`` raises.
        """
        for draft in self:
            if each is None:
                break
            each(draft)
        return self.size


def _product(axes: Sequence[Axis]) -> Iterator[tuple[Any, ...]]:
    # not itertools.product, which would first hold every value of every axis
    if not axes:
        yield ()
        return
    for before in _product(axes[:-1]):
        for value in axes[-1]:
            yield (*before, value)


def _axis(spec: str) -> Axis:
    name, equals, written = spec.partition("=")
    name = name.strip()
    if not equals or not name:
        raise InvalidInput(f"{SWEEP} '{spec}' is no parameter", _FORM)
    try:
        spec.encode()
        axis = Axis(name, tuple(_part(item.strip()) for item in written.split(",")))
        for part in axis.parts:
            # the numbers of a range are all alike
            check_field(name, next(iter(part)))
    except UnicodeEncodeError:
        raise InvalidInput(f"{SWEEP} {spec!r} is not UTF-8") from None
    except InvalidInput as problem:
        raise InvalidInput(f"{SWEEP} '{spec}': {problem.message}", problem.advice or _FORM) from None
    return axis


def _part(item: str) -> Range | tuple[Any]:
    if not item:
        raise InvalidInput("a value is missing", _FORM)
    numbers = [_number(text) for text in item.split(":")]
    if len(numbers) == 1 or None in numbers:
        return (value_of_text(item),)
    if len(numbers) != 3:
        raise InvalidInput(f"'{item}' is no range", _FORM)
    start, stop, step = (number for number in numbers if number is not None)
    return _range(start, stop, step)


def _number(text: str) -> Decimal | None:
    try:
        number = Decimal(text.strip())
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def _range(start: Decimal, stop: Decimal, step: Decimal) -> Range:
    for number in (start, stop, step):
        if abs(_exponent(number)) > MAX_EXPONENT or abs(number.adjusted()) > MAX_EXPONENT:
            raise InvalidInput(
                f"{number} is beyond what numbers can be", "Take a number a computer can hold."
            )
    if not step:
        raise InvalidInput("the step is 0", _FORM)
    if start != stop and (step > 0) != (stop > start):
        raise InvalidInput(
            f"steps of {step} do not lead from {start} to {stop}", "Turn the sign of the step."
        )
    places = max(0, *(-_exponent(number) for number in (start, stop, step)))
    first, last, by = (_times_ten_to(places, number) for number in (start, stop, step))
    count = (last - first) // by + 1
    if count > MAX_POINTS:
        raise InvalidInput(f"these are more than {MAX_POINTS:,} values", "Take larger steps.")
    return Range(first, by, count, 10**places)


def _exponent(number: Decimal) -> int:
    """The power of ten that the last digit counts; 0.10 has -2."""
    exponent = number.as_tuple().exponent
    return exponent if isinstance(exponent, int) else 0


def _times_ten_to(places: int, number: Decimal) -> int:
    # with whole numbers, because Decimal's own arithmetic rounds to 28 digits
    sign, digits, _ = number.as_tuple()
    value = int("".join(map(str, digits))) * int(10 ** (_exponent(number) + places))
    return -value if sign else value
