"""Each part of the engine, switched off: the same tokens as transformers, and really off."""

from collections import Counter
from functools import partial
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import WhisperForConditionalGeneration

from tests.fused.test_device_decoder import START, arguments_of, check_equal, engine, plain_tiny_whisper
from tests.tiny_whisper import tiny_features, tiny_whisper
from whisper_speedup.errors import LeftOutError
from whisper_speedup.fused.cache import AncestryPast, SharedCross
from whisper_speedup.fused.copied import CopiedCross, CopiedPast
from whisper_speedup.fused.graphed import GraphedWhisper
from whisper_speedup.fused.model import FusedWhisper
from whisper_speedup.fused.run_ahead import run_ahead
from whisper_speedup.fused.settings import decoding_settings
from whisper_speedup.fused.switches import PLAIN_SWITCHES, SWITCHES, Switch, check_rung, everything, switched_off

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
SUBSETS = [tuple(switch for place, switch in enumerate(PLAIN_SWITCHES) if number >> place & 1) for number in range(8)]


def fuse(
    model: WhisperForConditionalGeneration, arguments: dict[str, Any], *on: Switch, device: torch.device = CPU
) -> FusedWhisper:
    settings = decoding_settings(model, arguments, [START])
    return FusedWhisper(model, settings, device, torch.float32, off=switched_off(on))


def graphed(
    model: WhisperForConditionalGeneration, arguments: dict[str, Any], device_search: bool, device: torch.device = CPU,
    graphs: bool = False, dtype: torch.dtype = torch.float32,
) -> GraphedWhisper:  # fmt: skip
    settings = decoding_settings(model, arguments, [START])
    return GraphedWhisper(model, settings, device, dtype, device_search, graphs)


class Operators(TorchDispatchMode):
    """How often each operator ran."""

    def __init__(self) -> None:
        super().__init__()
        self.ran: Counter[str] = Counter()

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.ran[operator.overloadpacket.__name__] += 1
        return operator(*args, **(kwargs or {}))


@pytest.mark.parametrize("on", SUBSETS, ids=lambda on: "+".join(on) or "none")
@pytest.mark.parametrize("beams", [1, 2, 5])
def test_equals_transformers(on: tuple[Switch, ...], beams: int) -> None:
    model, arguments = plain_tiny_whisper(2), arguments_of(beams, 12)
    fused = fuse(model, arguments, *on)
    for features in (2, 3):  # the second utterance finds the buffers as the first left them
        check_equal(model, fused, tiny_features(features), arguments)


def steps_of(fused: FusedWhisper) -> int:
    """Steps of one utterance, counted as the parts are timed."""
    entered: Counter[str] = Counter()
    part = fused.part

    def counting(name: str) -> Any:
        entered[name] += 1
        return part(name)

    fused.part = counting
    fused.generate(tiny_features(1), longest=True)
    fused.part = part
    return entered["steps"]


@pytest.mark.parametrize("on", SUBSETS, ids=lambda on: "+".join(on) or "none")
def test_a_part_that_is_off_moves_its_states_at_every_step(on: tuple[Switch, ...]) -> None:
    """Keys and values of each layer are gathered where a part is off, and nothing is where it is on."""
    fused = fuse(tiny_whisper(1, layers=3), arguments_of(3, 10), *on)
    steps = steps_of(fused)
    assert steps == 9
    with Operators() as operators:
        fused.generate(tiny_features(1), longest=True)
    parts_off = {"ancestry", "shared_cross_attention"} - set(on)
    assert operators.ran["index_select"] == len(parts_off) * 2 * 3 * steps


def places(tensors: list[torch.Tensor]) -> list[int]:
    return [tensor.data_ptr() for tensor in tensors]


def apart(some: list[torch.Tensor], others: list[torch.Tensor]) -> bool:
    return not set(places(some)) & set(places(others))


def test_shared_cross_attention_has_one_copy_and_off_has_one_a_beam() -> None:
    features, copies = tiny_features(1), {}
    for on in ((), ("shared_cross_attention",)):
        fused = fuse(tiny_whisper(1), arguments_of(4, 6), *on)
        fused.generate(features)
        cross = fused.cache.cross
        copies[on] = sum(layer.untyped_storage().nbytes() for layer in cross.values)
        assert isinstance(cross, SharedCross if on else CopiedCross)
        if isinstance(cross, CopiedCross):
            assert all(layer.shape[0] == 4 and layer.stride(0) > 0 for layer in [*cross.keys, *cross.values])
            before = [*cross.keys, *cross.values]
            cross.reorder(torch.arange(4))  # to where they are, and still all of it is moved
            assert apart(cross.keys + cross.values, before)
    assert copies[()] == 4 * copies[("shared_cross_attention",)]


def test_ancestry_moves_a_table_and_off_moves_the_states() -> None:
    for on in ((), ("ancestry",)):
        fused = fuse(tiny_whisper(1), arguments_of(4, 6), *on)
        fused.generate(tiny_features(1))
        past = fused.cache.past
        assert isinstance(past, AncestryPast if on else CopiedPast)
        before = [*past.keys, *past.values]  # held, so that their memory is not given out again
        past.reorder(torch.tensor([1, 1, 0, 2]))
        assert places(past.keys + past.values) == places(before) if on else apart(past.keys + past.values, before)


def test_packed_weights_are_in_the_devices_layout_and_off_are_plain() -> None:
    for on in ((), ("packed_weights",)):
        fused = fuse(tiny_whisper(1), arguments_of(2, 6), *on)
        products = [
            fused.weights.projection,
            *(product for layer in fused.weights.layers for product in (layer.qkv.linear, layer.fc2)),
            *fused.weights.cross_values,
            *(product for layer in fused.encoder.layers for product in (*layer.qkv, layer.fc1)),
        ]
        assert all((product.weight is None) == bool(on) for product in products)
        assert not on or all(product.packed is not None or product.half is not None for product in products)


@pytest.mark.parametrize("rung", ["step_graph", "device_search", "kernels", "encoder_graph"])
def test_a_cpu_leaves_out_what_needs_a_gpu(rung: Switch) -> None:
    on = SWITCHES[: SWITCHES.index(rung) + 1]
    with pytest.raises(LeftOutError, match=r"^ladder.x is left out, because it has what needs a GPU \(step graph"):
        check_rung("ladder.x", on, CPU)
    check_rung("ladder.x", on, CUDA)
    with pytest.raises(LeftOutError, match=r"step graph does not serve these settings \(the language is to be detec"):
        check_rung("ladder.x", on, CUDA, "the language is to be detected")


def test_no_rung_is_the_whole_engine() -> None:
    for device, on in ((CPU, PLAIN_SWITCHES), (CUDA, SWITCHES)):
        with pytest.raises(LeftOutError, match="has on all that fused has on this device, and so is the same"):
            check_rung("ladder.x", on, device)
    check_rung("ladder.x", PLAIN_SWITCHES, CUDA)


def test_a_gpu_without_the_one_launch_has_all_else() -> None:
    why = "its heads are 64 wide, and the model's are 16"
    assert everything(CUDA, no_one_launch=why) == SWITCHES[:-1] == tuple(s for s in SWITCHES if s != "one_launch")
    with pytest.raises(LeftOutError, match="has on all that fused has on this device"):
        check_rung("ladder.x", SWITCHES[:-1], CUDA, None, why)
    with pytest.raises(LeftOutError, match=r"because its one launch does not serve these settings \(its heads are 64"):
        check_rung("ladder.x", SWITCHES, CUDA, None, why)
    check_rung("ladder.x", SWITCHES[:-1], CUDA)


both_searches = pytest.mark.parametrize("device_search", [False, True], ids=["host search", "device search"])


@both_searches
@pytest.mark.parametrize("beams", [1, 3, 5])
def test_the_step_for_graphs_equals_transformers(device_search: bool, beams: int) -> None:
    """What the graphs hold, run without capturing; the search's kernel in Triton's interpreter."""
    for seed in (3, 6):
        model, arguments = plain_tiny_whisper(seed), arguments_of(beams, 5)
        whisper = graphed(model, arguments, device_search)
        for features in (seed, seed + 1):
            check_equal(model, whisper, tiny_features(features), arguments)


@both_searches
def test_graphs_find_everything_where_it_was(device_search: bool) -> None:
    """A graph reads and writes where it was captured: no utterance may move a buffer."""
    whisper = graphed(plain_tiny_whisper(6), arguments_of(2, 4), device_search)
    past, cross = whisper.cache.past, whisper.cache.cross

    def everything() -> list[int]:
        assert isinstance(past, AncestryPast)
        search = [] if whisper.search is None else [whisper.search.state.tokens, whisper.search.candidates]
        return places([*past.keys, *past.values, past.ancestry, *cross.keys, *cross.values, whisper.tokens, *search])

    whisper.generate(tiny_features(1))
    before, values = everything(), cross.values[0].clone()
    whisper.generate(tiny_features(2))
    assert everything() == before
    assert not torch.equal(cross.values[0], values)
    assert not device_search or past.ancestry.data_ptr() == whisper.search.state.ancestry.data_ptr()


@both_searches
def test_steps_for_graphs_cut_at_timestamps_and_go_on(device_search: bool) -> None:
    model, arguments = plain_tiny_whisper(23, vocabulary=60, timestamps=True), arguments_of(2, 5)
    settings = decoding_settings(model, arguments, [START, 39])
    whisper = GraphedWhisper(model, settings, CPU, torch.float32, device_search, graphs=False)
    best = whisper.generate(tiny_features(23))
    assert len(best.tokens) > 5
    with torch.no_grad():
        assert best.tokens == model.generate(tiny_features(23), **arguments)[0].tolist()


@both_searches
def test_longest_forbids_end_of_text_once(device_search: bool) -> None:
    whisper = graphed(plain_tiny_whisper(6), arguments_of(2, 4), device_search)
    longest = whisper.generate(tiny_features(1), longest=True)
    assert (len(longest.tokens), longest.ended) == (4, False)
    best = whisper.generate(tiny_features(1))
    assert (len(best.tokens), best.ended) == (3, True)


def test_steps_are_run_until_one_says_done() -> None:
    done, ran = torch.zeros(1, dtype=torch.int32), []

    def step(number: int) -> None:
        ran.append(number)
        done.fill_(number == 2)

    run_ahead([partial(step, number) for number in range(9)], done, CPU, lambda: ran.append(-1))
    assert ran == [0, 1, 2, -1]


def speech(count: int, device: torch.device) -> list[torch.Tensor]:
    return [tiny_features(seed).to(device) for seed in range(count)]


@pytest.mark.gpu
@both_searches
@pytest.mark.parametrize("beams", [1, 2, 5])
def test_graphs_equal_transformers_in_fp32(device: torch.device, device_search: bool, beams: int) -> None:
    """A graph for each position behind the prompt, replayed: the same tokens as transformers on the CPU."""
    model, arguments = plain_tiny_whisper(13, width=128, vocabulary=300), arguments_of(beams, 20)
    whisper = graphed(model, arguments, device_search, device, graphs=True)
    whisper.warm_up(tiny_features(99).to(device))
    assert sorted(whisper.graphs) == list(range(1, 20))
    replayed = Counter[int]()
    for position, graph in list(whisper.graphs.items()):
        whisper.graphs[position] = Counting(graph, replayed, position)  # type: ignore[assignment]
    for features in speech(10, device):
        with torch.no_grad():
            expected = model.generate(features.cpu(), **arguments)[0].tolist()
        replayed.clear()
        assert whisper.generate(features).tokens == expected
        assert replayed[1] == 1  # it was the graphs that decoded


class Counting:
    """A graph that says how often it was replayed."""

    def __init__(self, graph: torch.cuda.CUDAGraph, replayed: Counter[int], position: int) -> None:
        self.graph, self.replayed, self.position = graph, replayed, position

    def replay(self) -> None:
        self.replayed[self.position] += 1
        self.graph.replay()


@pytest.mark.gpu
@both_searches
def test_graphs_equal_the_same_steps_without_them_in_fp16(device: torch.device, device_search: bool) -> None:
    model, arguments = plain_tiny_whisper(13, width=128, vocabulary=300), arguments_of(5, 20)
    found = []
    for graphs in (True, False):
        whisper = graphed(model, arguments, device_search, device, graphs, torch.float16)
        whisper.warm_up(tiny_features(99).to(device))
        found.append([whisper.generate(features).tokens for features in speech(10, device)])
    assert found[0] == found[1]


@pytest.mark.gpu
@pytest.mark.parametrize("on", SUBSETS, ids=lambda on: "+".join(on) or "none")
def test_plain_parts_on_a_gpu(device: torch.device, on: tuple[Switch, ...]) -> None:
    """Packed weights in fp32 here: the same tokens as transformers. Not packed is autocast, which rounds."""
    model, arguments = plain_tiny_whisper(13, width=128, vocabulary=300), arguments_of(5, 20)
    whisper = fuse(model, arguments, *on, device=device)
    whisper.warm_up(tiny_features(99).to(device))
    for features in speech(10, device):
        tokens = whisper.generate(features).tokens
        if "packed_weights" in on:
            with torch.no_grad():
                assert tokens == model.generate(features.cpu(), **arguments)[0].tolist()
        else:
            assert whisper.autocast
            assert whisper.weights.projection.weight.dtype == torch.float32
            assert whisper.cache.cross.values[0].dtype == torch.float16


@pytest.mark.gpu
def test_autocast_casts_each_weight_once_an_utterance(device: torch.device) -> None:
    """As it does for the baseline: a weight that it cast again at each step would flatter the packed ones."""
    model = plain_tiny_whisper(13, width=128, vocabulary=300)
    casts = {}
    for length in (5, 20):
        whisper = fuse(model, arguments_of(2, length), device=device)
        weight = whisper.weights.projection.weight
        whisper.generate(speech(1, device)[0], longest=True)
        with Casts(weight) as counted:
            whisper.generate(speech(1, device)[0], longest=True)
        casts[length] = counted.count
    assert casts == {5: 1, 20: 1}


class Casts(TorchDispatchMode):
    """How often one tensor was cast."""

    def __init__(self, tensor: torch.Tensor) -> None:
        super().__init__()
        self.tensor, self.count = tensor, 0

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if operator.overloadpacket.__name__ == "_to_copy" and args[0].data_ptr() == self.tensor.data_ptr():
            self.count += 1
        return operator(*args, **(kwargs or {}))


@pytest.mark.gpu
def test_the_encoder_has_a_graph_or_not(device: torch.device) -> None:
    model, arguments = plain_tiny_whisper(13, width=128, vocabulary=300), arguments_of(5, 20)
    found = {}
    for encoder_graph in (True, False):
        whisper = engine(model, arguments, device, torch.float16, graphs=True)
        whisper.encoder_graph = encoder_graph
        whisper.warm_up(tiny_features(99).to(device))
        assert ("encode" in whisper.graphs) == encoder_graph
        found[encoder_graph] = [whisper.generate(features).tokens for features in speech(10, device)]
    assert found[True] == found[False]
