"""JSON text, written in the one compact form in which it is stored and compared.

`json.JSONEncoder.encode` puts together a new C encoder at every call, which for a document of a few fields
costs as much as the encoding; here it is made once. Where there is none (other Pythons than CPython), the
plain way gives the same text.
"""

from __future__ import annotations

import json
from json import encoder
from typing import Any, Callable


def _encoder(*, sort_keys: bool) -> Callable[[Any], str]:
    plain = json.JSONEncoder(
        separators=(",", ":"), allow_nan=False, check_circular=False, sort_keys=sort_keys
    )
    c_make_encoder = getattr(encoder, "c_make_encoder", None)
    if c_make_encoder is None:
        return plain.encode
    ascii_string = encoder.encode_basestring_ascii
    make = c_make_encoder(None, plain.default, ascii_string, None, ":", ",", sort_keys, False, False)

    def encode(value: Any) -> str:
        return "".join(make(value, 0))

    return encode


encode = _encoder(sort_keys=False)
"""The text of a value, in ASCII; raises ValueError, TypeError or RecursionError for what JSON cannot say."""

canonical = _encoder(sort_keys=True)
"""The same with the names in every object sorted, so that equal values have equal texts."""
