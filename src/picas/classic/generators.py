"""Tokens to fill in and save, as programs of 1.x make them."""

from __future__ import annotations

from typing import Any


class TokenGenerator:
    """Makes token documents."""

    @staticmethod
    def get_empty_token() -> dict[str, Any]:
        """A new token that is free, without an id or any work yet."""
        return {"lock": 0, "done": 0, "hostname": "", "scrub_count": 0, "type": "token"}
