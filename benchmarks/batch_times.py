"""Where fused_batch's time goes at a published size: the step by slots, its kernels, the vocabulary's product, both
attentions and the candidates by launch configuration, the encoder by batch and attention. Synthetic weights; one GPU;
one JSON a run, kind `batch`.

    python benchmarks/batch_times.py --size large-v2 --slots 32 64 96

A step is timed as a graph with every slot at position 20. Bandwidths are counted bytes over measured time.
"""

import argparse
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from record import device_label, record
from settings import generation_params
from torch.nn.attention import SDPBackend

from whisper_speedup.checkpoints import synthetic
from whisper_speedup.engines.huggingface import generate_arguments, prompt_tokens, quiet_transformers
from whisper_speedup.fused.batch_decoder import BatchDecoder, BatchLaunch
from whisper_speedup.fused.batch_encoder import BatchEncoder
from whisper_speedup.fused.capture import capture
from whisper_speedup.fused.device_weights import pack_device_weights
from whisper_speedup.fused.encoder import Encoder
from whisper_speedup.fused.settings import decoding_settings
from whisper_speedup.kernels.batch_cross_attention import BatchCrossScratch, batch_cross_attention
from whisper_speedup.kernels.batch_self_attention import batch_self_attention
from whisper_speedup.kernels.row_candidates import row_candidates
from whisper_speedup.kernels.stream import ROWS
from whisper_speedup.measure.bandwidth import copy_bandwidth

POSITION = 20
# Shares, block, warps, stages.
CROSS = [
    (4, 64, 4, 3), (1, 64, 4, 3), (2, 64, 4, 3), (2, 128, 4, 3), (4, 128, 4, 3), (4, 128, 8, 2), (6, 256, 8, 1),
    (12, 128, 4, 1), (2, 64, 4, 5), (4, 32, 2, 4), (2, 64, 2, 4),
]  # fmt: skip
# Heads a program, block, warps; and block, warps.
SELF = [(4, 16, 4), (1, 32, 2), (1, 32, 1), (2, 16, 2), (2, 32, 4), (4, 16, 2), (4, 32, 8), (1, 64, 4)]
CANDIDATES = [(1024, 1), (2048, 4), (1024, 4), (2048, 2), (4096, 8), (512, 1)]
BACKENDS = {"cudnn": SDPBackend.CUDNN_ATTENTION, "flash": SDPBackend.FLASH_ATTENTION}


def main() -> None:
    """Time, write, print; what a timing refuses is said and left out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="large-v2")
    parser.add_argument("--beams", type=int, default=5)
    parser.add_argument("--slots", type=int, nargs="+", default=[32, 64, 96])
    parser.add_argument("--together", type=int, nargs="*", default=[4, 8, 16])
    parser.add_argument("--seconds", type=float, default=90, help="no new timing begins later")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    arguments = parser.parse_args()
    deadline = time.monotonic() + arguments.seconds
    quiet_transformers()
    device = torch.device("cuda")
    model = synthetic.make(arguments.size, 0, device, torch.float16)
    given = generate_arguments(generation_params(arguments.beams, 50, min_length=448), model.generation_config)
    settings = decoding_settings(model, given, prompt_tokens(model, given))
    weights = pack_device_weights(model, device, torch.float16)
    encoder = Encoder(model, device, torch.float16)
    mels, positions = model.config.num_mel_bins, model.config.max_source_positions
    del model
    torch.cuda.empty_cache()
    bandwidth = copy_bandwidth(device)
    rows: list[dict[str, Any]] = [{"what": "copy", "gb_s": bandwidth / 1e9}]

    def say(row: dict[str, Any]) -> None:
        rows.append(row)
        print(row, flush=True)

    with torch.inference_mode():
        for slots in arguments.slots:
            if time.monotonic() < deadline:
                try:
                    last = slots == arguments.slots[-1]
                    times_of_step(weights, settings, positions, slots, say, deadline, profiled=last)
                except Exception as error:  # the encoder's times are worth having all the same
                    traceback.print_exc()
                    say({"what": "step", "slots": slots, "error": f"{type(error).__name__}: {error}"[:300]})
                torch.cuda.empty_cache()
        for count in arguments.together:
            for name, backend in BACKENDS.items():
                if time.monotonic() < deadline:
                    times_of_encoder(encoder, weights, name, backend, count, mels, positions, say)
                    torch.cuda.empty_cache()
    path = record("batch", device_label(device), arguments.out, size=arguments.size, beams=arguments.beams, rows=rows)
    print(path)


def times_of_step(
    weights: Any, settings: Any, positions: int, slots: int, say: Callable[[dict[str, Any]], None], deadline: float,
    profiled: bool,
) -> None:  # fmt: skip
    """The whole step, and with `profiled` its kernels and cross-attention's configurations."""
    decoder = BatchDecoder(weights, settings, positions, slots, BatchLaunch())
    decoder.cross.normal_()
    state = decoder.state

    def begin() -> None:
        for slot in range(slots):
            state.start(slot, decoder.prompt_length, decoder.first_row, settings.max_total(0))
        state.position.fill_(POSITION)
        state.length.fill_(POSITION + 1)
        state.scores.fill_(-1.0)

    begin()
    graph = captured(lambda: decoder.step(slots, settings.min_length))
    begin()
    step_ms = milliseconds(graph.replay, 8)  # 25 steps in all: no search may come to its limit
    say({"what": "step", "slots": slots, "ms": step_ms, "ms_a_slot": step_ms / slots})
    state.done.fill_(1)
    say({"what": "step, every slot done", "slots": slots, "ms": milliseconds(graph.replay, 20)})
    if not profiled:
        return
    begin()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        for _ in range(3):
            graph.replay()
        torch.cuda.synchronize()
    events = sorted(profile.key_averages(), key=lambda one: -one.self_device_time_total)
    for event in events[:16]:
        us, count = event.self_device_time_total / 3, event.count // 3
        say({"what": "kernel", "slots": slots, "name": event.key[:90], "us": us, "launches": count})
    begin()
    width, layers = weights.embedding.shape[1], len(decoder.layers)
    row = {"what": "vocabulary's product", "slots": slots}
    product = partial(decoder._product_fp32, decoder.normed, decoder.projection, decoder.logits)
    say({**row, "us": milliseconds(product, 10) * 1e3})
    sweeps: list[tuple[str, list[tuple[int, ...]], Callable[..., None], int]] = [
        ("cross-attention", CROSS, cross_attentions, layers), ("self-attention", SELF, self_attentions, layers),
        ("candidates", CANDIDATES, candidates, 1),
    ]  # fmt: skip
    for what, configs, run, launches in sweeps:
        for config in configs:
            if time.monotonic() > deadline:
                return
            row = {"what": what, "slots": slots, "config": config}
            try:
                ms = milliseconds(captured(partial(run, decoder, *config)).replay, 3) / launches
            except Exception as error:  # a configuration that this GPU refuses is a finding
                say({**row, "error": type(error).__name__})
                continue
            bandwidth = {"gb_s": slots * positions * width * 4 / ms / 1e6} if run is cross_attentions else {}
            say({**row, "us": ms * 1e3, **bandwidth})


def cross_attentions(decoder: BatchDecoder, shares: int, block: int, warps: int, stages: int) -> None:
    """Every layer's."""
    weights, beams = decoder.weights, decoder.settings.num_beams
    width, heads = weights.embedding.shape[1], weights.heads
    scratch = BatchCrossScratch(decoder.slots, heads, width // heads, shares, weights.embedding.device)
    for index, layer in enumerate(decoder.layers):
        batch_cross_attention(
            decoder.query, layer.query.offset, decoder.cross[:, 2 * index], decoder.cross[:, 2 * index + 1],
            decoder.state.done, decoder.attended, heads, beams, scratch, block, warps, stages,
        )  # fmt: skip


def self_attentions(decoder: BatchDecoder, group: int, block: int, warps: int) -> None:
    """Every layer's, at the position that the slots have."""
    state = decoder.state
    for index, layer in enumerate(decoder.layers):
        batch_self_attention(
            decoder.qkv, layer.qkv.offset, decoder.keys[index], decoder.values[index], state.ancestry, state.position,
            state.done, decoder.attended, decoder.prompt_length, decoder.weights.heads, group, block, warps,
        )  # fmt: skip


def candidates(decoder: BatchDecoder, block: int, warps: int) -> None:
    """Of logits as a step leaves them."""
    state, tiles = decoder.state, -(-decoder.size // block)
    peak, norm = (torch.empty(decoder.slots, tiles, ROWS, device=decoder.logits.device) for _ in range(2))
    kept = torch.empty(*peak.shape, decoder.candidates.shape[3], dtype=torch.int64, device=peak.device)
    row_candidates(
        decoder.logits[:, : decoder.size], decoder.weights.projection.offset, decoder.rules, state.length, state.done,
        peak, norm, kept, decoder.prompt_length, 1, decoder.settings.num_beams, block, warps,
    )  # fmt: skip


def times_of_encoder(
    encoder: Encoder, weights: Any, name: str, backend: SDPBackend, count: int, mels: int, positions: int,
    say: Callable[[dict[str, Any]], None],
) -> None:  # fmt: skip
    """Encoder and cross-attention's projection for `count` utterances together."""
    device = weights.embedding.device
    batch = BatchEncoder(encoder, [backend])
    features = torch.randn(count, mels, 2 * positions, device=device)
    row = {"what": "encoder", "utterances": count, "attention": name}
    try:
        graph = captured(lambda: batch(features))
        ms = milliseconds(graph.replay, 3) / count
    except Exception as error:  # a library may refuse
        say({**row, "error": f"{type(error).__name__}: {error}"[:200]})
        return
    say({**row, "ms_an_utterance": ms})
    if name == "cudnn":
        states, out = batch(features)[0], torch.empty(
            weights.cross_weight.shape[0], positions, weights.embedding.shape[1], device=device, dtype=torch.float16
        )  # fmt: skip
        weight = weights.cross_weight.transpose(1, 2)
        ms = milliseconds(lambda: torch.bmm(states.expand(weight.shape[0], -1, -1), weight, out=out), 5)
        say({"what": "projection", "ms_an_utterance": ms})
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
            graph.replay()
            torch.cuda.synchronize()
        events = sorted(profile.key_averages(), key=lambda one: -one.self_device_time_total)
        for event in events[:9]:
            say({"what": "encoder kernel", "utterances": count, "name": event.key[:90],
                 "us": event.self_device_time_total / count, "launches": event.count})  # fmt: skip


def captured(run: Callable[[], Any]) -> torch.cuda.CUDAGraph:
    """`run` as a graph."""
    return capture(torch.device("cuda"), {"run": run})["run"]


def milliseconds(run: Callable[[], Any], times: int) -> float:
    """Of one `run`, the best of 3 rounds of `times`."""
    run()
    best = float("inf")
    for _ in range(3):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        for _ in range(times):
            run()
        end.record()
        end.synchronize()
        best = min(best, begin.elapsed_time(end) / times)
    return best


if __name__ == "__main__":
    main()
