"""Clips, and weights, whose numbers overflow: one row's reason, or the end of the run."""

from collections.abc import Set
from dataclasses import replace

import pytest
import torch

from tests.run.test_benchmark import PARTIAL, Counting, decode, once, profile  # noqa: F401  (profile is a fixture)
from whisper_speedup.disk.files import read_jsonl
from whisper_speedup.engines.protocol import Generation
from whisper_speedup.errors import NotANumberError, UserError
from whisper_speedup.params.profile import Profile
from whisper_speedup.run import benchmark

NAN = NotANumberError("measure.counting.precision", half=True)


class NaNs(Counting):
    """NaN for the calls of `generate` in `bad` and of `warm_up` in `warm_ups`, counted from 1."""

    def __init__(self, bad: Set[int], warm_ups: Set[int] = frozenset()) -> None:
        super().__init__()
        self.bad, self.warm_ups = bad, warm_ups

    def warm_up(self, features: torch.Tensor) -> None:
        super().warm_up(features)
        if self.calls.count("warm_up") in self.warm_ups:
            raise NAN

    def generate(self, features: torch.Tensor) -> Generation:
        if len(self.features) + 1 in self.bad:
            self.features.append(features)
            raise NAN
        return super().generate(features)


def test_nan_for_one_clip_is_that_rows_error(profile: Profile, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    rows = decode(once(profile), NaNs({1}, {1}), monkeypatch)
    assert [row["error"] for row in rows if row["id"] != "b"] == [str(NAN), None, None]
    assert "measure.counting.precision: float32" in str(NAN)


def test_a_clip_that_fails_in_warming_up_is_replaced(profile: Profile, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    engine = NaNs(set(), {1})
    decode(once(profile), engine, monkeypatch)
    assert engine.calls.count("warm_up") == 3


def test_nan_for_every_clip_ends_the_run(profile: Profile, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    with pytest.raises(UserError) as ended:
        decode(once(profile), NaNs({1, 2, 3}, {1, 2, 3}), monkeypatch)
    assert str(ended.value) == (
        "the model's output is not a number for any of the first 3 clips: the weights overflow in half precision, so"
        " decode in fp32 (measure.counting.precision: float32); 4 of 4 utterances are kept in "
        f"{PARTIAL}, and running again goes on from there."
    )
    assert [row["error"] for row in read_jsonl(PARTIAL)[2:] if row["id"] != "b"] == [str(NAN)] * 3


def test_nan_for_the_first_clips_ends_the_run_early(profile: Profile, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setattr(benchmark, "ENOUGH", 2)
    with pytest.raises(UserError, match=r"for any of the first 2 clips: .*; 3 of 4 utterances are kept"):
        decode(once(profile), NaNs({1, 2}), monkeypatch)


def test_nan_after_a_number_never_ends_the_run(profile: Profile, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setattr(benchmark, "ENOUGH", 2)
    rows = decode(once(profile), NaNs({2, 3}), monkeypatch)
    assert [row["error"] is None for row in rows] == [True, False, False, False]


def test_encoder_states_are_looked_at_for_engines_that_cannot_tell(
    profile: Profile, monkeypatch: pytest.MonkeyPatch  # noqa: F811
) -> None:  # fmt: skip
    class Showing(Counting):
        def generate(self, features: torch.Tensor) -> Generation:
            states = torch.ones(2, 3)
            states[1, 2] = float("nan") if len(self.features) == 1 else 0
            return replace(super().generate(features), encoder_states=states)

    rows = decode(once(profile), Showing(), monkeypatch)
    assert [row["error"] is None for row in rows] == [True, False, False, True]
    assert "is not a number for this clip (in fp32)" in rows[2]["error"]


def test_weights_damaged_in_fp32_say_so() -> None:
    sentence = NotANumberError("measure.fused.precision", half=False).for_all(1)
    assert sentence.startswith("the model's output is not a number for the first clip: the weights are damaged")
