"""The logger of programs of 1.x, which prints to standard error. The root logger is left as it is."""

from __future__ import annotations

import logging

_FORM = "%(asctime)s - %(name)s - %(levelname)s - %(message)s"

picaslogger = logging.getLogger("PiCaS")
picaslogger.setLevel(logging.INFO)

if not picaslogger.handlers:  # a program may have set it up its own way
    _handler = logging.StreamHandler()
    _handler.setFormatter(logging.Formatter(_FORM))
    picaslogger.addHandler(_handler)
