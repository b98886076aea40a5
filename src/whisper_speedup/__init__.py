"""Reproduce Kernl's Whisper benchmark, explain every differing output, and go past its speedup."""

from typing import Any

__all__ = ["explain_path", "last_path", "optimize_model", "restore_model"]


def __getattr__(name: str) -> Any:
    """The public functions, imported when they are first asked for: they bring torch and transformers."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from whisper_speedup.optimize import public

    return getattr(public, name)
