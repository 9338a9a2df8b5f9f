"""What can be done to a token within a document, as programs of picasclient know it: ``picas.modifiers``.

A modifier changes dictionaries; the program saves them.
"""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING, Any

from picas import jobid
from picas.tokens import PILOT_FAILURE_MARK

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping, Sequence
    from typing import NoReturn, Union

    Record = MutableMapping[str, Any]
    Reference = Union[str, int, Sequence[Union[str, int]]]

DEFAULT_TIMEOUT = 86400
"""Seconds; kept for programs that look at it. Nothing here depends on it."""


class TokenModifier:
    """What a modifier can do. Programs may write one for documents of their own kind.

    Args:
        timeout: of no effect, as it was in 1.x.
    """

    def __init__(self, timeout: float = DEFAULT_TIMEOUT) -> None:
        self.timeout = timeout

    def lock(self, *args: Any, **kwargs: Any) -> Any:
        """Mark the token as being worked on."""
        self._refuse("lock")

    def unlock(self, *args: Any, **kwargs: Any) -> Any:
        """Take that mark away."""
        self._refuse("unlock")

    def close(self, *args: Any, **kwargs: Any) -> Any:
        """Mark the token as finished."""
        self._refuse("close")

    def unclose(self, *args: Any, **kwargs: Any) -> Any:
        """Take that mark away."""
        self._refuse("unclose")

    def add_output(self, *args: Any, **kwargs: Any) -> Any:
        """Put results into the token."""
        self._refuse("add_output")

    def scrub(self, *args: Any, **kwargs: Any) -> Any:
        """Make the token free again, and count that."""
        self._refuse("scrub")

    def set_error(self, *args: Any, **kwargs: Any) -> Any:
        """Mark the token as failed."""
        self._refuse("set_error")

    def _refuse(self, name: str) -> NoReturn:
        raise NotImplementedError(
            f"{type(self).__name__} has no {name}; BasicTokenModifier has one to start from."
        )


class BasicTokenModifier(TokenModifier):
    """For tokens that are documents. Every method changes the token that it is given, and returns it."""

    def __init__(self) -> None:
        super().__init__()

    def lock(self, token: Record) -> Record:
        """Mark it as being worked on here and now, by this batch job."""
        jobid.add_job_id(token)
        token.update(hostname=socket.gethostname(), lock=_seconds())
        return token

    def unlock(self, token: Record) -> Record:
        """Take the lock away; whether it is finished stays as it is."""
        jobid.remove_job_id(token)
        token.update(hostname=socket.gethostname(), lock=0)
        return token

    def close(self, token: Record) -> Record:
        """Mark it as finished now."""
        token["done"] = _seconds()
        return token

    def unclose(self, token: Record) -> Record:
        """Mark it as not finished."""
        jobid.remove_job_id(token)
        token["done"] = 0
        return token

    def add_output(self, token: Record, output: Mapping[str, Any]) -> Record:
        """Put fields into it."""
        token.update(output)
        return token

    def scrub(self, token: Record) -> Record:
        """Make it free again, and count that."""
        jobid.remove_job_id(token)
        count = token.get("scrub_count")
        token["scrub_count"] = (count if isinstance(count, int) else 0) + 1
        token.update(hostname=socket.gethostname(), lock=0)
        return token

    def set_error(self, token: Record) -> Record:
        """Mark it as failed."""
        token.update(lock=PILOT_FAILURE_MARK, done=PILOT_FAILURE_MARK)
        return token


class NestedTokenModifier(TokenModifier):
    """For tokens within a document. Every method changes the record that it is given, and returns it.

    A reference says where the token is: a name, or names and list indexes from the outside to the inside.

    Example:
        >>> record = {"steps": [{"lock": 0}, {"lock": 7}]}
        >>> NestedTokenModifier().get_token(("steps", 1), record)
        {'lock': 7}
    """

    def __init__(self, timeout: float = DEFAULT_TIMEOUT) -> None:
        super().__init__(timeout)
        self.tokenmodifier = BasicTokenModifier()

    def get_token(self, ref: Reference, record: Record) -> Record:
        """The token.

        Raises:
            KeyError, IndexError: there is nothing where the reference leads.
        """
        found: Any = record
        for step in [ref] if isinstance(ref, (str, int)) else ref:
            found = found[step]
        token: Record = found
        return token

    def lock(self, ref: Reference, record: Record) -> Record:
        """Mark it as being worked on here and now, by this batch job."""
        self.tokenmodifier.lock(self.get_token(ref, record))
        return record

    def unlock(self, ref: Reference, record: Record) -> Record:
        """Take the lock away; whether it is finished stays as it is."""
        self.tokenmodifier.unlock(self.get_token(ref, record))
        return record

    def close(self, ref: Reference, record: Record) -> Record:
        """Mark it as finished now."""
        self.tokenmodifier.close(self.get_token(ref, record))
        return record

    def unclose(self, ref: Reference, record: Record) -> Record:
        """Mark it as not finished."""
        self.tokenmodifier.unclose(self.get_token(ref, record))
        return record

    def add_output(self, ref: Reference, record: Record, output: Mapping[str, Any]) -> Record:
        """Put fields into it."""
        self.tokenmodifier.add_output(self.get_token(ref, record), output)
        return record

    def scrub(self, ref: Reference, record: Record) -> Record:
        """Make it free again, and count that."""
        self.tokenmodifier.scrub(self.get_token(ref, record))
        return record

    def set_error(self, ref: Reference, record: Record) -> Record:
        """Mark it as failed."""
        self.tokenmodifier.set_error(self.get_token(ref, record))
        return record


def _seconds() -> int:
    return int(time.time())
