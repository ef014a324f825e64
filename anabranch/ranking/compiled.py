"""Loops over candidates, compiled: one pass over memory where NumPy would take fifty."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """Compile a function of arrays at its first call for their types, a second or so; other threads run beside it.

    Sums may be taken in another order, always the same one, and the last bits of a result differ from NumPy's. Nothing
    is kept on disk: where processes run, nothing may be writable, and what is kept would be pickled.
    """
    return cast(Function, njit(nogil=True, fastmath={"reassoc", "contract"})(function))
