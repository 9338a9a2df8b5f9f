"""Calls that may take longer than one wants to wait for."""

from __future__ import annotations

import threading
from typing import Callable, TypeVar

from picas.errors import PoolUnavailable

T = TypeVar("T")


def within(seconds: float, call: Callable[[], T]) -> T:
    """What a call returns or raises, if it does in time.

    Raises:
        PoolUnavailable: it does not. It goes on, on a thread that does not keep the process from ending.
    """
    returned: list[T] = []
    raised: list[BaseException] = []

    def run() -> None:
        try:
            returned.append(call())
        except BaseException as error:  # noqa: BLE001 - raised where the call was wanted
            raised.append(error)

    thread = threading.Thread(target=run, name="picas-overdue", daemon=True)
    thread.start()
    thread.join(max(0.0, seconds))
    if raised:
        raise raised[0]
    if returned:
        return returned[0]
    raise PoolUnavailable("the pool has not answered in time")
