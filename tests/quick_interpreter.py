"""Triton's interpreter, without work that it repeats: a third of these tests' time.

A launch exchanges the functions of `triton.language` for ones that interpret, and puts them back at its end. Triton
3.6 does the first half again for every call of a function within the kernel, though they are exchanged already.
"""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import triton.language as tl
from triton.runtime import interpreter


def exchange_once() -> None:
    """Let a call within a launch exchange only those of the language's modules that the launch has not."""
    exchange, modules = interpreter._patch_lang, {}
    exchanged: set[ModuleType] = set()

    def seen(function: Callable[..., Any]) -> set[ModuleType]:
        if function not in modules:
            modules[function] = {one for one in (tl, tl.core) if one in function.__globals__.values()}
        return modules[function]

    def once(function: Callable[..., Any]) -> Any:
        if exchanged and seen(function) <= exchanged:
            return None
        scope, launching = exchange(function), not exchanged
        exchanged.update(seen(function))
        if launching:
            restore = scope.restore

            def end() -> None:
                exchanged.clear()
                restore()

            scope.restore = end
        return scope

    interpreter._patch_lang = once
