"""All layers in one launch. On a CPU the CUDA source runs compiled for the host, emulated.h in hopper.cuh's place."""

from pathlib import Path

import pytest
import torch

from tests.kernels.emulation import SHARED, emulated
from tests.kernels.support import EPS, WIDTHS, relative_error
from whisper_speedup.kernels.persistent_layers import (
    PersistentLayers,
    Plain,
    PlainLayer,
    compiled,
    pack_layers,
    persistent_layers_reference,
)
from whisper_speedup.kernels.persistent_packing import PackedLayers, pack_cross
from whisper_speedup.kernels.persistent_plan import Plan, make_plan
from whisper_speedup.kernels.stream import Stream

# x is handed over in fp16 a dozen times a layer, and the norms' gamma is rounded into the weights.
TOLERANCE = {torch.float16: 2e-3, torch.bfloat16: 1.6e-2}  # which has 3 bits less


class Case:
    """A random decoder and the buffers of one launch."""

    def __init__(self, plan: Plan, layers: int, positions: int, device: torch.device, dtype: torch.dtype) -> None:
        def random(*shape: int, scale: float = 1.0) -> torch.Tensor:
            return (torch.randn(*shape, device=device) * scale).to(dtype)

        width = plan.width
        self.plan, self.device, self.dtype = plan, device, dtype

        def product(index: int) -> Plain:
            shape = plan.products[index]
            weight, bias = random(shape.n, shape.k, scale=shape.k**-0.5), random(shape.n, scale=0.1)
            norm = (None, None) if index % 2 else (1 + random(width, scale=0.1), random(width, scale=0.1))
            return Plain(weight, bias, *norm)

        self.layers = [PlainLayer(*map(product, range(len(plan.products)))) for _ in range(layers)]
        self.gamma = 1 + random(width, scale=0.1)
        self.embedding, self.places = random(50, width), random(positions, width)
        self.keys, self.values = (random(layers, positions, plan.rows, width) for _ in range(2))
        self.cross_keys, self.cross_values = (random(layers, plan.keys, width) for _ in range(2))
        self.ancestry = torch.randint(0, plan.rows, (8, positions), dtype=torch.int32, device=device)
        self.cross = torch.zeros(layers, plan.heads, plan.all_units, 2, 2048, dtype=dtype, device=device)
        for index in range(layers):
            pack_cross(plan, self.cross_keys[index], self.cross_values[index], self.cross[index])

    def packed(self) -> PackedLayers:
        return pack_layers(self.plan, len(self.layers), self.layers, self.gamma, self.device, self.dtype)

    def check(self, persistent: PersistentLayers, rows: int, start: int, prompt: bool) -> torch.Tensor:
        """Launch twice, for each launch hands over in what the one before has emptied; the residual stream."""
        if prompt:
            self.ancestry.zero_()
        else:
            self.ancestry[:rows, start] = torch.arange(rows, dtype=torch.int32, device=self.device)
        tokens = torch.randint(0, 50, (rows,), dtype=torch.int32, device=self.device)
        place = torch.arange(start, start + rows) if prompt else torch.full((rows,), start)
        x = (self.embedding[tokens.long()] + self.places[place.to(self.device)]).float()
        keys, values = self.keys.clone(), self.values.clone()
        expected = persistent_layers_reference(
            x, self.layers, keys, values, self.cross_keys, self.cross_values, self.ancestry, start, prompt,
            self.plan.heads, EPS,
        )  # fmt: skip
        at = torch.tensor([start], dtype=torch.int32, device=self.device)
        found = []

        def run(stream: Stream, keys: torch.Tensor, values: torch.Tensor, done: int) -> None:
            flag = torch.tensor([done], dtype=torch.int32, device=self.device)
            persistent.run(
                tokens, at, self.embedding, self.places, self.ancestry, keys, values, self.cross, stream, prompt, flag
            )  # fmt: skip

        for _ in range(2):
            stream = Stream(self.plan.width, self.dtype, self.device)
            ours = (self.keys.clone(), self.values.clone())
            run(stream, *ours, done=0)
            found.append(stream.residual[:rows].clone())
            assert relative_error(found[-1], expected) < TOLERANCE[self.dtype]
            assert relative_error(stream.scaled[:rows], expected * self.gamma.float()) < TOLERANCE[self.dtype]
            sums = stream.sums[:, : self.plan.grid, :rows].sum(1)
            torch.testing.assert_close(sums[0], found[-1].sum(1), atol=1e-2, rtol=1e-3)
            torch.testing.assert_close(sums[1], found[-1].square().sum(1), atol=1e-2, rtol=1e-3)
            for mine, theirs in zip(ours, (keys, values), strict=True):
                assert relative_error(mine, theirs) < TOLERANCE[self.dtype]
            before = [one.clone() for one in (stream.residual, *ours)]
            run(stream, *ours, done=1)  # behind the search's end nothing is written, and the next launch is as good
            assert all(torch.equal(*pair) for pair in zip(before, (stream.residual, *ours), strict=True))
        assert torch.equal(*found)
        return found[0]


# width, ffn, heads, keys, blocks, rows of a launch at most, layers; rows, start, prompt
SHAPES = [
    pytest.param((128, 256, 2, 70, 9, 5, 3), (5, 6, False), id="a step of five beams"),
    pytest.param((128, 256, 2, 70, 9, 5, 3), (4, 0, True), id="a prompt"),
    pytest.param((192, 320, 3, 301, 13, 3, 1), (3, 70, False), id="odd numbers, keys past the early ones"),
    pytest.param((128, 256, 2, 1500, 9, 1, 1), (1, 33, False), id="one beam, two units a warp"),
]


@pytest.mark.parametrize(("shape", "step"), SHAPES)
def test_against_the_reference(shape: tuple[int, ...], step: tuple[int, int, bool], tmp_path: Path) -> None:
    width, ffn, heads, keys, grid, most, layers = shape
    plan = make_plan(width, ffn, heads, keys, most, grid, SHARED)
    assert plan is not None
    case = Case(plan, layers, 100, torch.device("cpu"), torch.float16)
    case.check(PersistentLayers(case.packed(), EPS, emulated(plan, tmp_path)), *step)


def test_the_smallest_ring_that_a_plan_allows(tmp_path: Path) -> None:
    """Hardly a piece fits behind the one before, and the next waits until the oldest has been read."""
    plans = (make_plan(128, 256, 2, 300, 3, 5, limit) for limit in range(50_000, SHARED, 128))
    plan = next(plan for plan in plans if plan is not None)
    assert plan.ring < 2 * plan.layer_bytes
    case = Case(plan, 4, 100, torch.device("cpu"), torch.float16)
    case.check(PersistentLayers(case.packed(), EPS, emulated(plan, tmp_path)), 3, 2, False)


@pytest.mark.parametrize("width", WIDTHS)
def test_every_weight_has_a_place_of_its_own(width: int) -> None:
    plan = make_plan(width, 4 * width, width // 64, 1500, 5, 132, SHARED)
    assert plan is not None
    assert plan.shared_bytes <= SHARED
    packed = PackedLayers(plan, 1, torch.device("cpu"), torch.float16)
    for index, product in enumerate(plan.products):
        places = packed._place(index)
        assert len(places.unique()) == len(places) == product.n * product.k // 8
        packed.put(0, index, torch.ones(product.n, product.k))
    assert int((packed.packed == 1).sum()) == sum(product.n * product.k for product in plan.products)


def test_what_does_not_fit_has_no_plan() -> None:
    assert make_plan(1280, 5120, 20, 1500, 9, 132, SHARED) is None  # rows
    assert make_plan(1280, 5120, 20, 1500, 5, 16, SHARED) is None  # fewer blocks than heads
    assert make_plan(96, 384, 2, 1500, 5, 132, SHARED) is None  # heads that are not 64 wide
    assert make_plan(1280, 5120, 20, 1500, 5, 132, 100_000) is None  # shared memory


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize(
    "step", [(5, 3, False), (5, 60, False), (1, 200, False), (8, 30, False), (4, 0, True)], ids=str
)
def test_full_shape(width: int, dtype: torch.dtype, step: tuple[int, int, bool]) -> None:
    device = torch.device("cuda")
    gpu = torch.cuda.get_device_properties(device)
    if gpu.major < 9:
        pytest.skip("needs Hopper or newer")
    shape = (width, 4 * width, width // 64, 1500, max(step[0], 4), gpu.multi_processor_count)
    plan = make_plan(*shape, gpu.shared_memory_per_block_optin, dtype)
    assert plan is not None
    case = Case(plan, 2, 448, device, dtype)
    persistent = PersistentLayers(case.packed(), EPS, compiled(plan))
    first = case.check(persistent, *step)
    assert first.isfinite().all()
