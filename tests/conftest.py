"""Before anything imports Triton: without a GPU, kernels run in its interpreter.

Triton decides when a kernel is defined, its own library's too, and other libraries import it early; so this must be
set before the first test module is read, and without asking torch.
"""

import os
import shutil

if shutil.which("nvidia-smi") is None:
    os.environ.setdefault("TRITON_INTERPRET", "1")
