"""The persistent kernel on a host: its CUDA source compiled with emulated.h in hopper.cuh's place."""

import ctypes
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from whisper_speedup.kernels.persistent_layers import source
from whisper_speedup.kernels.persistent_plan import Plan

SHARED = 232448  # bytes that a block may have on Hopper
TYPES = "const char*, const float*, const u16*, const u16*, const int*, const int*, const int*, u16*, u16*, const char*"
LAUNCH = f"""
typedef unsigned short u16;
template <class... Types> struct Call {{
    template <size_t... I> static void run(void** p, int a, int b, int c, int d, int e, int f, double eps, std::index_sequence<I...>) {{
        persistent_layers((Types)p[I]..., a, b, c, d, e, f, eps);
    }}
}};
extern "C" void emulate(void** p, int layers, int rows, int beams, int positions, int keys, int prompt, double eps, u64 bytes, u64 seed) {{
    body = [=] {{
        Call<{TYPES}, u16*, float*, u16*, float*, u32*, const int*, u32*>::run(p, layers, rows, beams, positions, keys, prompt, eps, std::make_index_sequence<17>());
    }};
    run_grid(GRID, bytes, seed);
}}
"""  # noqa: E501


def emulated(plan: Plan, folder: Path) -> Callable[..., None]:
    """The launch on this machine: every thread a fiber, copies that land late, and another order each time."""
    if shutil.which("g++") is None:
        pytest.skip("the emulation needs g++")
    machine = (Path(__file__).parent / "emulated.h").read_text()
    (folder / "kernel.cpp").write_text(source(plan, machine) + LAUNCH)
    command = [
        "g++",
        "-std=c++17",
        "-O1",
        "-U_FORTIFY_SOURCE",
        "-w",
        "-shared",
        "-fPIC",
        "-o",
        "kernel.so",
        "kernel.cpp",
    ]
    subprocess.run(command, cwd=folder, check=True)
    library = ctypes.CDLL(str(folder / "kernel.so"))
    seed = 0

    def launch(*args: Any) -> None:
        nonlocal seed
        seed += 1
        tensors = [one for one in args if isinstance(one, torch.Tensor)]
        *numbers, eps = (one for one in args if not isinstance(one, torch.Tensor))
        pointers = (ctypes.c_void_p * len(tensors))(*(one.data_ptr() for one in tensors))
        library.emulate(
            pointers, *map(ctypes.c_int, numbers), ctypes.c_double(eps), ctypes.c_uint64(plan.shared_bytes),
            ctypes.c_uint64(seed),
        )  # fmt: skip

    return launch
