"""Compilation of array functions by Numba: one pass over memory where NumPy expressions would take fifty."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

Function = TypeVar("Function", bound=Callable[..., Any])

CACHED = "NUMBA_CACHE_DIR" in os.environ
"""Whether compiled code is cached in that folder for later processes, which saves ten seconds per start on a slow core.

Not by default: in production no folder may be writable, and whoever can write to the cache can run any machine code.
Use one folder per version: the cache does not notice when a function that a cached one calls has changed.
"""


def compiled(function: Function) -> Function:
    """Compile a function of arrays at its first call with their types, in about a second; it runs without the GIL.

    Loops over scalars compile with a fraction of the time and memory of whole-array expressions.

    Sums may be reordered, always in the same way, so that the last bits of a result differ from NumPy's.
    """
    return cast(Function, njit(nogil=True, fastmath={"reassoc", "contract"}, cache=CACHED)(function))


def compiled_inline(function: Function) -> Function:
    """As `compiled`, for a step of one other function: it becomes part of that, which compiles in less time."""
    return cast(Function, njit(nogil=True, fastmath={"reassoc", "contract"}, cache=CACHED, inline="always")(function))


def compiled_under_lock(function: Function) -> Function:
    """As `compiled`, but holds the GIL, for functions too short to release it; sums are not reordered."""
    return cast(Function, njit(cache=CACHED)(function))
