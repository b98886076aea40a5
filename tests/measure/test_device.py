import pytest
import torch

from whisper_speedup.errors import UserError
from whisper_speedup.measure.device import GIB, check_memory, failure, gib, resolve


@pytest.mark.parametrize("here", [False, True])
def test_cpu_is_a_cpu_everywhere(monkeypatch: pytest.MonkeyPatch, here: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: here)
    assert resolve("cpu").type == "cpu"
    assert resolve("auto").type == ("cuda" if here else "cpu")


@pytest.mark.parametrize(("build", "why"), [(None, "this torch is a CPU build"), ("13.0", "no usable NVIDIA GPU")])
def test_cuda_without_a_gpu_says_why(monkeypatch: pytest.MonkeyPatch, build: str | None, why: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", build)
    with pytest.raises(UserError, match=why):
        resolve("cuda")


def test_cuda_with_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve("cuda").type == "cuda"


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU of 8 GiB of which 2 are free, and 0.5 more that torch holds and does not use."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device=None: (2 * GIB, 8 * GIB))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: GIB)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: GIB // 2)


def test_a_model_that_fits_is_not_refused(memory: None) -> None:
    check_memory("fused", 5 * GIB // 2, torch.device("cuda"))


def test_too_little_memory_says_how_much_is_needed_and_free(memory: None) -> None:
    with pytest.raises(UserError, match=r"^fused needs at least 3\.0 GiB .* and 2\.5 GiB of 8\.0 GiB are free: ") as no:
        check_memory("fused", 3 * GIB, torch.device("cuda"))
    assert str(no.value).endswith(".")


OOM = "CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 8.00 GiB of which 2.00 GiB is free"


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (torch.OutOfMemoryError(OOM), "full (2.50 GiB more were asked for, 2.0 GiB of 8.0 GiB were free): end other"),
        (torch.AcceleratorError("CUDA error: out of memory\nSearch for"), "the GPU's memory is full: end other"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"), "the GPU's memory is full: end other"),
        (RuntimeError("Triton Error [CUDA]: out of memory"), "the GPU's memory is full: end other"),
        (torch.AcceleratorError("CUDA error: unspecified launch failure\n\n"), "(CUDA error: unspecified launch fail"),
        (RuntimeError("Triton Error [CUDA]: device-side assert"), "stopped working (Triton Error [CUDA]: device-side"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), "stopped working (cuDNN error: CUDNN_STATUS_EX"),
        (RuntimeError("CUDA driver error: device lost"), "stopped working (CUDA driver error: device lost)"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_failing_device_is_one_sentence(memory: None, error: RuntimeError, sentence: str) -> None:
    said = failure(error)
    assert said is not None
    assert sentence in said
    assert said.endswith(".")
    assert "\n" not in said


def test_a_device_that_does_not_answer_is_still_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(device: object = None) -> None:
        raise RuntimeError("CUDA error: device lost")

    monkeypatch.setattr(torch.cuda, "mem_get_info", gone)
    said = failure(torch.OutOfMemoryError(OOM))
    assert said is not None
    assert "(2.50 GiB more were asked for): end" in said


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("mat1 and mat2 shapes cannot be multiplied; CUDA error is not how it starts"),
        RuntimeError("the disk is out of memory"),
        ValueError("CUDA error: no"),
    ],
    ids=str,
)
def test_other_errors_are_none_of_its_business(error: Exception) -> None:
    assert failure(error) is None


@pytest.mark.parametrize(("size", "text"), [(12 * 2**20, "12 MiB"), (GIB, "1.0 GiB"), (79 * GIB, "79.0 GiB")])
def test_sizes_read_well(size: int, text: str) -> None:
    assert gib(size) == text


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to"
            " allocate 4000000000000 bytes. Error code 12 (Cannot allocate memory)"
        ),
    ],
    ids=lambda error: type(error).__name__,
)
def test_the_machines_memory(error: Exception) -> None:
    assert failure(error) == (
        "this machine's memory is full: end other programs, or choose a smaller model or fewer beams."
    )


@pytest.mark.parametrize(
    "text",
    [
        "CUDA unknown error - this may be due to an incorrectly set up environment",
        "CUDA driver initialization failed, you might not have a CUDA gpu.",
        "Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU",
        "No CUDA GPUs are available",
        "Unexpected error from cudaGetDeviceCount(). Did you run some cuda functions before",
        "CUDA error: no CUDA-capable device is detected\nCUDA kernel errors might be",
    ],
)
def test_a_driver_that_has_gone(text: str) -> None:
    sentence = failure(RuntimeError(text))
    assert sentence is not None
    assert sentence.startswith(f"the GPU stopped working ({text.splitlines()[0].rstrip('.')}): run again")
