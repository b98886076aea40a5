"""A kernel that writes where nothing is, to see that compute-sanitizer reports it (tools/sanitize.sh).

Ends with 0, so that any other exit code is the sanitizer's.
"""

import contextlib

import torch
import triton
import triton.language as tl


@triton.jit
def _planted_kernel(x_ptr, offset):
    tl.store(x_ptr + offset, 1.0)


if __name__ == "__main__":
    # The launch fails, which torch says when it next looks.
    with contextlib.suppress(RuntimeError):
        _planted_kernel[(1,)](torch.zeros(1, device="cuda"), 2**28)
        torch.cuda.synchronize()
