"""Genuine Kernl at work, in Kernl's own environment: one file that needs nothing else of this repository.

The engine kernl_upstream starts it with that environment's interpreter. They exchange JSON lines, a request a line on
standard input and an answer a line on standard output; the first line out is {"ready": what is installed}.

    {"do": "load", "model": folder, "device": "cuda", "autocast": true, "prompt": [ids]}  ->  {"loaded": model's dtype}
    {"do": "generate", "features": file.npy, "arguments": {...}, "longest": false}
        ->  {"tokens": [...], "seconds": s, "memory": {...}}

With "longest", {"progress": n} comes before the answer for each length that has been decoded. Whatever goes wrong is
{"error": one sentence}. Syntax of Python 3.9, for Kernl itself was written for it.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import resource
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

COMMIT = "91e2cd9"  # of ELS-RD/kernl, July 2023, its last
# Over the names and contents of its Python files, as kernl_sha256 makes it: whatever it was installed from, this is it.
COMMIT_SHA256 = "f931585aea0340c6963f8afc7b387202e7f07fd1af20fe17e45d226359d72264"
AGAIN = "make its environment again with `make kernl-env`"
# The newest set in which this Kernl runs unchanged. Before torch 2.1 Dynamo breaks the decoder into a graph a layer,
# after it Kernl cannot read the graphs; newer Tritons have no triton.ops, newer transformers keep another cache.
PINNED = {"torch": "2.1.2", "triton": "2.1.0", "transformers": "4.30.2"}


def main() -> int:
    """Answer requests until standard input ends. The exit code is 2 when this environment is refused."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print must not get between the answers

    def say(answer: dict[str, Any]) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    found = installed()
    reason = refusal(found)
    if reason is not None:
        say({"error": reason})
        return 2
    say({"ready": found})
    state: dict[str, Any] = {}
    for line in sys.stdin:
        request = json.loads(line)
        try:
            say(load(state, request) if request["do"] == "load" else generate(state, request, say))
        except Exception as error:
            traceback.print_exc()
            first = (str(error).strip().splitlines() or ["no message"])[0]
            say({"error": f"{request['do']} failed in Kernl's process ({type(error).__name__}: {first})."})
    return 0


def installed() -> dict[str, Any]:
    """Versions, which package `import kernl` would find, and the GPU's compute capability, [8, 0] or None.

    Only the right torch is asked for a GPU: a wrong one is refused anyway, and takes seconds to import.
    """
    versions = {name: version(name) for name in [*PINNED, "numpy"]}
    found = {"python": platform.python_version(), **versions, **find_kernl(), "cuda": None, "capability": None}
    if versions["torch"] == PINNED["torch"]:
        import torch

        found["cuda"] = torch.version.cuda
        if torch.cuda.is_available():
            found["capability"] = list(torch.cuda.get_device_capability())
    return found


def version(package: str) -> str | None:
    """A package's version without its build tag (+cu121), None where it is not installed."""
    try:
        return importlib.metadata.version(package).split("+")[0]
    except importlib.metadata.PackageNotFoundError:
        return None


def find_kernl() -> dict[str, Any]:
    """`kernl`: "genuine", "other" or None, found without running its code. `commit`: COMMIT where its files are that
    commit's, else what pip says it was installed from, or None."""
    # A script's folder is on its path, and ours has a kernl.py.
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry or os.curdir) != here]
    spec = importlib.util.find_spec("kernl")
    if spec is None:
        return {"kernl": None, "commit": None}
    folders = list(spec.submodule_search_locations or [])
    genuine = any(os.path.isfile(os.path.join(folder, "model_optimization.py")) for folder in folders)
    if genuine and kernl_sha256(folders[0]) == COMMIT_SHA256:
        return {"kernl": "genuine", "commit": COMMIT}
    commit = None
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        source = json.loads(importlib.metadata.distribution("kernl").read_text("direct_url.json") or "{}")
        commit = source.get("vcs_info", {}).get("commit_id")
    if commit is not None:
        commit = f"{COMMIT}, changed" if commit.startswith(COMMIT) else commit[:7]
    return {"kernl": "genuine" if genuine else "other", "commit": commit}


def kernl_sha256(folder: str) -> str:
    """SHA-256 over the names and contents of a package's Python files."""
    total = hashlib.sha256()
    found = [os.path.join(root, name) for root, _, names in os.walk(folder) for name in names if name.endswith(".py")]
    for name, path in sorted((os.path.relpath(path, folder).replace(os.sep, "/"), path) for path in found):
        with open(path, "rb") as file:
            content = file.read()
        total.update(f"{name} {len(content)}\n".encode())
        total.update(content)
    return total.hexdigest()


def refusal(found: dict[str, Any]) -> str | None:
    """Why genuine Kernl cannot run with what installed() found, in one sentence, or None."""
    if found["python"].split(".")[:2] != ["3", "10"]:
        return f"Kernl's environment needs Python 3.10, and this interpreter is {found['python']}: {AGAIN}."
    if found["kernl"] == "other":
        return (
            "the kernl in this environment is PyPI's, an SSH client and dataset manager that is no part of ELS-RD/kernl"
            f" (it has no kernl.model_optimization): uninstall it and {AGAIN}."
        )
    if found["kernl"] is None:
        return f"this environment has no kernl: {AGAIN}."
    if found["commit"] != COMMIT:
        known = f" (pip says {found['commit']})" if found["commit"] else ""
        return f"this environment's Kernl is not commit {COMMIT} as it was published{known}: {AGAIN}."
    for package, wanted in PINNED.items():
        if found[package] != wanted:
            return f"Kernl runs with {package} {wanted} and here is {found[package]}: {AGAIN}."
    if found["numpy"] is None or int(found["numpy"].split(".")[0]) >= 2:
        return f"torch {PINNED['torch']} needs a numpy below 2 and here is {found['numpy']}: {AGAIN}."
    if found["capability"] is None:
        return "Kernl needs an NVIDIA GPU and its torch finds none: run on a machine with one, with its driver."
    if found["capability"] < [8, 0]:
        have = ".".join(str(number) for number in found["capability"])
        return f"Kernl needs compute capability 8.0 (Ampere) or newer and this GPU has {have}: use another GPU."
    return None


def load(state: dict[str, Any], request: dict[str, Any]) -> dict[str, Any]:
    """The notebook's model: fp32 weights, beam reorder mended, the decoder optimised by Kernl."""
    import torch
    from transformers import WhisperForConditionalGeneration

    state.update(device=torch.device(request["device"]), autocast=request["autocast"], prompt=request["prompt"])
    torch.set_float32_matmul_precision("high")
    # Newer folders say in which type they are stored and newer transformers follow; the notebook computes from fp32.
    # Safetensors alone, for this transformers would run the code in a torch file.
    model = WhisperForConditionalGeneration.from_pretrained(request["model"], use_safetensors=True)
    model = model.float().eval().to(state["device"])
    force_prompt(model, request["prompt"])
    model._reorder_cache = reorder_self_attention_only
    optimizer()(model.model.decoder)
    state["model"] = model
    return {"loaded": str(model.dtype)[len("torch.") :]}


def optimizer() -> Callable[[Any], Any]:
    """Kernl's optimize_model, after what it takes to run on triton 2.1.0 and torch 2.1.2 with no edit of its source."""
    import torch._dynamo
    import triton.language

    # triton 2.1 renamed the module in which Kernl's activations look for tanh and erf.
    if not hasattr(triton.language, "libdevice"):
        triton.language.libdevice = triton.language.math
    # Kernl's patterns know fixed shapes only: a graph for each length, and one length more than the default keeps.
    torch._dynamo.config.automatic_dynamic_shapes = False
    torch._dynamo.config.cache_size_limit = 512
    from kernl.model_optimization import optimize_model  # type: ignore[import-not-found]

    return optimize_model


def force_prompt(model: Any, prompt: list[int]) -> None:
    """transformers 4.30 starts from the first token alone and forces the others one step at a time, as it did then."""
    model.config.forced_decoder_ids = None  # it would win over the generation config's
    forced = [[position, token] for position, token in enumerate(prompt) if position > 0]
    model.generation_config.forced_decoder_ids = forced or None
    model.generation_config.decoder_start_token_id = prompt[0]


def reorder_self_attention_only(past: Any, beams: Any) -> Any:
    """The notebook's fix: cross-attention states are the same for each beam, so only the others are copied.

    `past` holds four tensors a layer, keys and values of self-attention first.
    """
    return tuple(tuple(state.index_select(0, beams) for state in layer[:2]) + tuple(layer[2:]) for layer in past)


def generate(state: dict[str, Any], request: dict[str, Any], say: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Decode one utterance under the notebook's modes; `seconds` is its timed region."""
    import numpy
    import torch

    model, device = state["model"], state["device"]
    features = torch.from_numpy(numpy.load(request["features"])).to(device)
    arguments = whole_lengths(request["arguments"], len(state["prompt"]), model.config.max_target_positions)
    if request["longest"]:  # every length has a graph of its own, and each must be made before the clock runs
        arguments["min_length"] = arguments["max_length"]
        arguments["logits_processor"] = telling(say)
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.inference_mode())
        if state["autocast"]:
            stack.enter_context(torch.autocast(device.type, dtype=torch.float16, cache_enabled=True))
        synchronize(device)
        begin = time.perf_counter()
        sequence = model.generate(features, **arguments)[0]
        synchronize(device)
        seconds = time.perf_counter() - begin
    tokens = hypothesis(sequence.tolist(), len(state["prompt"]), model.generation_config.eos_token_id)
    return {"tokens": tokens, "seconds": seconds, "memory": memory(device)}


def telling(say: Callable[[dict[str, Any]], None]) -> Any:
    """A list of one logits processor, which changes nothing and says how many lengths have been decoded."""
    from transformers import LogitsProcessor, LogitsProcessorList

    class Tell(LogitsProcessor):  # type: ignore[misc]
        count = 0

        def __call__(self, input_ids: Any, scores: Any) -> Any:
            self.count += 1
            say({"progress": self.count})
            return scores

    return LogitsProcessorList([Tell()])


def whole_lengths(arguments: dict[str, Any], prompt: int, positions: int) -> dict[str, Any]:
    """transformers 4.30 counts the prompt in max_length, and today's does not: as many new tokens for both."""
    return {**arguments, "max_length": min(arguments["max_length"] + prompt, positions)}


def hypothesis(sequence: list[int], prompt: int, eos: Any) -> list[int]:
    """The generated ids of a sequence as transformers 4.30 returns it: prompt first, ends filled with end-of-text."""
    ends = eos if isinstance(eos, list) else [eos]
    tokens = sequence[prompt:]
    return next((tokens[:place] for place, token in enumerate(tokens) if token in ends), tokens)


def synchronize(device: Any) -> None:
    """Wait until the device has finished; at once on a CPU."""
    if device.type == "cuda":
        import torch

        torch.cuda.synchronize(device)


def memory(device: Any) -> dict[str, int | None]:
    """Bytes, under the names that run.json has: the allocator's on a GPU, and this process's peak."""
    figures: dict[str, int | None] = dict.fromkeys(("allocated", "reserved", "max_allocated", "max_reserved"))
    if device.type == "cuda":
        from torch import cuda

        figures = {
            "allocated": cuda.memory_allocated(device),
            "reserved": cuda.memory_reserved(device),
            "max_allocated": cuda.max_memory_allocated(device),
            "max_reserved": cuda.max_memory_reserved(device),
        }
    return {**figures, "process_peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}


if __name__ == "__main__":
    sys.exit(main())
