"""How JavaScript reads values as numbers, since the classic views of CouchDB compare by its rules."""

from __future__ import annotations

import math
import re


def js_number(value: object) -> float:
    """The number JavaScript compares with for ``value == 0`` and ``value > 0``; NaN where both are false."""
    if type(value) is int:
        return value
    if isinstance(value, (bool, float)):
        return float(value)
    if not isinstance(value, (str, list)):  # null is not even equal to 0
        return math.nan
    text = _js_string(value).strip(_JS_SPACE)
    if not text:
        return 0.0
    if _JS_RADIX.fullmatch(text):
        return int(text, 0)
    return float(text) if _JS_DECIMAL.fullmatch(text) else math.nan


_JS_SPACE = "\t\n\v\f\r \xa0\u1680\u2028\u2029\u202f\u205f\u3000\ufeff" + "".join(
    map(chr, range(0x2000, 0x200B))
)
_JS_DECIMAL = re.compile(r"[+-]?(?:Infinity|(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)")
_JS_RADIX = re.compile(r"0[xX][0-9a-fA-F]+|0[oO][0-7]+|0[bB][01]+")
_LEADING_INTEGER = re.compile(r"([+-]?)(?:0[xX]([0-9a-fA-F]*)|([0-9]+))")

_JS_INFINITE = 400
"""Digits from which on a number is Infinity in JavaScript, and slow or refused here."""


def _js_string(value: object) -> str:
    """JavaScript's ``String(value)``, as far as a number can be read at its beginning."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        try:
            return ",".join("" if item is None else _js_string(item) for item in value)
        except RecursionError:
            return "nested too deep to be a number"
    if isinstance(value, float):
        # Without an exponent from 1e-6 on, where Python begins to write one below 1e-4.
        return f"{value:.22f}" if 1e-6 <= abs(value) < 1e-4 else repr(value)
    return str(value) if type(value) is int and abs(value) < 10**_JS_INFINITE else "not a number"


def js_parse_int(value: object) -> int | None:
    """JavaScript's ``parseInt(value)``, None standing for NaN.

    Source: ECMA-262, parseInt (string, radix): the longest leading integer, hexadecimal after ``0x``.
    """
    if type(value) is int:
        return value
    found = _LEADING_INTEGER.match(_js_string(value).lstrip(_JS_SPACE))
    if found is None or found[2] == "":
        return None
    sign, hexadecimal, decimal = found.groups()
    magnitude = int(hexadecimal, 16) if hexadecimal else int(decimal.lstrip("0")[:_JS_INFINITE] or "0")
    return -magnitude if sign == "-" else magnitude
