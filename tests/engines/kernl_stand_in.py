"""A stand-in for Kernl's environment: an "interpreter" that runs the worker in this one, with a kernl of our own.

The worker is the real one, in a process of its own. Replaced are what it finds installed, the kernl package, and the
three functions that speak to transformers 4.30, for the tests' transformers counts lengths and caches otherwise.
"""

import sys
from pathlib import Path

WRAPPER = """
import importlib.util, sys

sys.path.insert(0, {packages!r})
spec = importlib.util.spec_from_file_location("worker", sys.argv[-1])
worker = importlib.util.module_from_spec(spec)
spec.loader.exec_module(worker)
installed = worker.installed


def stand_in():
    pinned = dict(worker.PINNED, python="3.10.13", numpy="1.26.4", capability=[9, 0], commit=worker.COMMIT)
    return {{**installed(), **pinned, **{changes!r}}}


def reorder(past, beams):
    past.self_attention_cache.reorder_cache(beams)
    return past


worker.installed = stand_in
if {today!r}:
    worker.whole_lengths = lambda arguments, prompt, positions: dict(arguments)
    worker.hypothesis = lambda sequence, prompt, eos: sequence
    worker.reorder_self_attention_only = reorder
sys.exit(worker.main())
"""
KERNL = """
import pathlib

import torch
import triton.language


def optimize_model(decoder):
    assert triton.language.libdevice is triton.language.math or hasattr(triton.language, "libdevice")
    assert torch._dynamo.config.automatic_dynamic_shapes is False
    assert torch._dynamo.config.cache_size_limit == 512
    forward, calls = decoder.forward, pathlib.Path(__file__).with_name("calls")
    print("libraries print what they like")

    def counted(*args, **kwargs):
        with calls.open("a") as file:
            file.write(f"{torch.is_inference_mode_enabled()}\\n")
        return forward(*args, **kwargs)

    decoder.forward = counted
"""


def program(path: Path, code: str, interpreter: str = sys.executable) -> str:
    """An executable that runs `code` with whatever arguments it gets, as an interpreter's name in a profile."""
    script = path.with_suffix(".py")
    script.write_text(code)
    path.write_text(f'#!/bin/sh\nexec "{interpreter}" -I "{script}" "$@"\n')
    path.chmod(0o755)
    return str(path)


def stand_in(folder: Path, interpreter: str = sys.executable, today: bool = True, **changes: object) -> str:
    """A stand-in environment in `folder`; `changes` are to what it finds installed. Its kernl is kernl/ beside it.

    `today=False` leaves the worker's functions for transformers 4.30 as they are: for an interpreter that has it.
    """
    package = folder / "packages" / "kernl"
    package.mkdir(parents=True)
    (package / "model_optimization.py").write_text(KERNL)
    code = WRAPPER.format(packages=str(package.parent), changes=changes, today=today)
    return program(folder / "python", code, interpreter)


def decoder_calls(folder: Path) -> list[str]:
    """One entry a call of the optimised decoder: whether inference mode was on."""
    calls = folder / "packages" / "kernl" / "calls"
    return calls.read_text().split() if calls.is_file() else []
