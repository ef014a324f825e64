"""Loops over candidates, compiled: one pass over memory where NumPy would take fifty."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

Function = TypeVar("Function", bound=Callable[..., Any])

KEPT = "NUMBA_CACHE_DIR" in os.environ
"""Whether what is compiled is kept in that folder, for processes to come: ten seconds of a start on a slow core.

Not by itself: where processes run nothing may be writable, and what is kept is machine code that whoever writes there
chooses. Nor may the folder outlive this version: what is kept of a loop does not notice that one it calls has changed.
"""


def compiled(function: Function) -> Function:
    """Compile a function of arrays at its first call for their types, a second or so; other threads run beside it.

    Loops over single numbers compile in a fraction of the time, and memory, that whole-array expressions take.

    Sums may be taken in another order, always the same one, and the last bits of a result differ from NumPy's.
    """
    return cast(Function, njit(nogil=True, fastmath={"reassoc", "contract"}, cache=KEPT)(function))


def compiled_under_lock(function: Function) -> Function:
    """As `compiled`, for what is so short that letting other threads run would take longer; and no sum is reordered."""
    return cast(Function, njit(cache=KEPT)(function))
