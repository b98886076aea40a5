"""How steps are shared among graphs; what the whole of DeviceWhisper decodes is in test_device_decoder.py."""

import pytest

from whisper_speedup.fused.device_model import in_graphs


@pytest.mark.parametrize(
    ("steps", "about", "graphs"),
    [
        (49, 16, {17: 1, 16: 2}),
        (19, 8, {10: 1, 9: 1}),
        (16, 8, {8: 2}),
        (11, 8, {11: 1}),
        (1, 16, {1: 1}),
        (0, 16, {}),
    ],
)
def test_graphs_of_steps(steps: int, about: int, graphs: dict[int, int]) -> None:
    assert in_graphs(steps, about) == graphs
    assert [*graphs] == sorted(graphs, reverse=True), "the larger first"


@pytest.mark.parametrize("about", [8, 16])
def test_no_step_is_lost(about: int) -> None:
    for steps in range(200):
        assert sum(count * times for count, times in in_graphs(steps, about).items()) == steps
