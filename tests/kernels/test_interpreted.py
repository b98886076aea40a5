"""Every kernel against its torch reference, on odd shapes: in Triton's interpreter on a CPU, compiled on a GPU.

Tolerances are relative errors of whole results: 2e-6 in fp32 (order of additions), 1e-3 in fp16 (rounding of inputs to
the tensor cores and of outputs). No bf16 here: the interpreter gets it wrong without saying so.
"""

import pytest
import torch
import triton

from whisper_speedup.kernels.cross_attention import CrossAttentionScratch, cross_attention, cross_attention_reference
from whisper_speedup.kernels.embed import embed, embed_reference
from whisper_speedup.kernels.linear_residual import linear_residual, linear_residual_reference
from whisper_speedup.kernels.norm_linear import fold_norm, norm_linear, norm_linear_reference
from whisper_speedup.kernels.norm_qkv import norm_qkv, norm_qkv_reference
from whisper_speedup.kernels.self_attention import self_attention, self_attention_reference
from whisper_speedup.kernels.stream import ROWS, Stream
from whisper_speedup.kernels.vocabulary import vocabulary, vocabulary_reference

TOLERANCE = {torch.float16: 1e-3, torch.float32: 2e-6}
DTYPES = list(TOLERANCE)
SMALL = {"block_n": 16, "block_k": 32, "num_stages": 1}


def close(found: torch.Tensor, expected: torch.Tensor, dtype: torch.dtype) -> None:
    error = (found.float() - expected.float()).norm() / expected.float().norm()
    assert float(error) < TOLERANCE[dtype], float(error)


def random(device: torch.device, dtype: torch.dtype, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, device=device).to(dtype)


def filled(x: torch.Tensor, gamma: torch.Tensor) -> Stream:
    """A stream that holds x, left for the norm with gamma by the embedding kernel; the other rows hold garbage."""
    width, device = x.shape[1], x.device
    stream = Stream(width, gamma.dtype, device)
    for buffer in (stream.residual, stream.scaled, stream.sums):
        buffer.fill_(float("nan"))
    tokens = torch.arange(x.shape[0], dtype=torch.int32, device=device)
    zeros = torch.zeros(1, width, device=device, dtype=x.dtype)
    embed(tokens, x.contiguous(), zeros, torch.zeros(1, dtype=torch.int32, device=device), stream, gamma, block=16)
    return stream


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rows", "n", "k", "gelu"), [(5, 40, 72, False), (1, 33, 48, True), (8, 16, 100, True)])
def test_norm_linear(device: torch.device, dtype: torch.dtype, rows: int, n: int, k: int, gelu: bool) -> None:
    x = random(device, dtype, rows, k) * 2 + 0.3
    weight, bias = random(device, dtype, n, k), random(device, dtype, n)
    gamma, beta = random(device, dtype, k), random(device, dtype, k)
    out = torch.full((rows, n), float("nan"), device=device, dtype=dtype)
    norm_linear(filled(x, gamma), weight, *fold_norm(weight, bias, gamma, beta), out, 1e-5, gelu, **SMALL)
    close(out, norm_linear_reference(x, weight, bias, gamma, beta, 1e-5, gelu), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("rows", "n", "k", "splits"), [(5, 40, 72, 1), (3, 40, 200, 3), (8, 24, 96, 2), (1, 17, 33, 1)]
)
def test_linear_residual(device: torch.device, dtype: torch.dtype, rows: int, n: int, k: int, splits: int) -> None:
    gamma = random(device, dtype, n)
    stream = filled(random(device, dtype, rows, n), gamma)
    for _ in range(2):  # the second launch finds the arrival counts as the first left them
        x, weight, bias = random(device, dtype, rows, k), random(device, dtype, n, k), random(device, dtype, n)
        expected = linear_residual_reference(x, weight, bias, stream.residual[:rows])
        linear_residual(x, weight, bias, stream, gamma, splits=splits, **SMALL)
        close(stream.residual[:rows], expected, torch.float32 if dtype == torch.float32 else dtype)
        close(stream.scaled[:rows], expected * gamma.float(), dtype)
        sums = stream.sums[:, : stream.parts, :rows].sum(1)
        torch.testing.assert_close(sums[0], stream.residual[:rows].sum(-1), rtol=1e-4, atol=1e-3)
        torch.testing.assert_close(sums[1], stream.residual[:rows].square().sum(-1), rtol=1e-4, atol=1e-3)
    assert bool(stream.residual[rows:].isnan().all()), "rows beyond the utterance's must stay as they are"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("prompt", [False, True])
def test_norm_qkv_and_self_attention(device: torch.device, dtype: torch.dtype, prompt: bool) -> None:
    rows, d, heads, positions, beams, start = 3, 40, 5, 11, 4, 6
    x, weight, bias = random(device, dtype, rows, d), random(device, dtype, 3 * d, d), random(device, dtype, 3 * d)
    gamma, beta = random(device, dtype, d), random(device, dtype, d)
    keys, values = random(device, dtype, positions, beams, d), random(device, dtype, positions, beams, d)
    other_keys, other_values = keys.clone(), values.clone()
    query = torch.full((rows, d), float("nan"), device=device, dtype=dtype)
    at = torch.tensor([start], dtype=torch.int32, device=device)
    folded = fold_norm(weight, bias, gamma, beta)
    norm_qkv(filled(x, gamma), weight, *folded, query, keys, values, at, 1e-5, prompt, **SMALL)
    expected = norm_qkv_reference(x, weight, bias, gamma, beta, 1e-5, other_keys, other_values, start, prompt)
    close(query, expected, dtype)
    close(keys, other_keys, dtype)
    close(values, other_values, dtype)

    ancestry = torch.randint(0, beams, (rows + 2, positions), dtype=torch.int32, device=device)
    out = torch.full((rows, d), float("nan"), device=device, dtype=dtype)
    self_attention(query, keys, values, ancestry, at, out, heads, prompt, block_t=4)
    close(out, self_attention_reference(query, keys, values, ancestry, start, prompt, heads), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("keys_count", "shares"), [(77, 1), (77, 3), (92, 5), (17, 2)])
def test_cross_attention(device: torch.device, dtype: torch.dtype, keys_count: int, shares: int) -> None:
    rows, d, heads = 5, 48, 3
    scratch = CrossAttentionScratch(heads, d // heads, shares, device)
    for _ in range(2):
        # All scores far below zero: a key that is not there, with its score of 0, would take the whole weight.
        query = -random(device, dtype, rows, d).abs() - 1
        keys, values = random(device, dtype, keys_count, d).abs() + 1, random(device, dtype, keys_count, d)
        out = torch.full((rows, d), float("nan"), device=device, dtype=dtype)
        cross_attention(query, keys, values, out, heads, scratch)
        close(out, cross_attention_reference(query, keys, values, heads), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("length", [4, 9])
def test_vocabulary(device: torch.device, dtype: torch.dtype, length: int) -> None:
    rows, d, size, keep, prompt_length, min_length, eos = 3, 32, 203, 6, 4, 8, 7
    x, embedding = random(device, dtype, rows, d), random(device, dtype, size, d)
    embedding[50] = embedding[20]  # equal logits: the lower token goes first
    gamma, beta = random(device, dtype, d), random(device, dtype, d)
    rules = torch.zeros(size, dtype=torch.int8, device=device)
    rules[[1, 2, 3]], rules[[5, 6]], rules[eos] = 1, 2, 4
    forbidden = rules == 1
    forbidden[[5, 6]] = length == prompt_length
    forbidden[eos] = length < min_length
    tiles = triton.cdiv(size, 64)
    peak, norm = torch.zeros(tiles, ROWS, device=device), torch.zeros(tiles, ROWS, device=device)
    candidates = torch.zeros(tiles, ROWS, keep, dtype=torch.int64, device=device)
    folded = fold_norm(embedding, torch.zeros(size, device=device), gamma, beta)
    at = torch.tensor([length], dtype=torch.int32, device=device)
    vocabulary(
        filled(x, gamma), 0, rows, embedding, *folded, rules, at, peak, norm, candidates, 1e-5, prompt_length,
        min_length, block_n=64, block_k=16, num_stages=1,
    )  # fmt: skip
    best, tokens, total = vocabulary_reference(x, embedding, gamma, beta, 1e-5, forbidden, keep)
    highest = peak[:, :rows].max(0).values
    found = (norm[:, :rows] * (peak[:, :rows] - highest).exp()).sum(0).log() + highest
    torch.testing.assert_close(found, total, rtol=1e-3, atol=2e-3)
    merged = candidates[:, :rows].transpose(0, 1).reshape(rows, -1).sort(dim=1, descending=True).values[:, :keep]
    chosen = 0x7FFFFFFF - (merged & 0x7FFFFFFF)
    for row in range(rows):
        assert not bool(forbidden[chosen[row]].any())
        pairs = list(zip(best[row].tolist(), best[row].tolist()[1:], strict=False))
        if all(a - b > 0.01 for a, b in pairs):  # where fp16 cannot swap two
            assert chosen[row].tolist() == tokens[row].tolist()
    twins = candidates[:, :rows].reshape(-1)
    order = [int(0x7FFFFFFF - (c & 0x7FFFFFFF)) for c in twins.tolist() if c != -(2**63)]
    assert 50 not in order or order.index(20) < order.index(50)


@pytest.mark.parametrize("prompt", [False, True])
def test_embed(device: torch.device, prompt: bool) -> None:
    tokens = torch.tensor([3, 0, 9], dtype=torch.int32, device=device)
    embedding, positions = random(device, torch.float16, 12, 40), random(device, torch.float16, 9, 40)
    stream = Stream(40, torch.float16, device)
    at = torch.tensor([2], dtype=torch.int32, device=device)
    embed(tokens, embedding, positions, at, stream, random(device, torch.float16, 40), prompt, block=16)
    assert torch.equal(stream.residual[:3], embed_reference(tokens, embedding, positions, 2, prompt))
