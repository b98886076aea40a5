"""A hundred random uses of small Whispers, the same ones each time: ours does what transformers does. `make fuzz` runs
3000; `python tools/differential.py --seed N` one."""

from collections import Counter
from typing import Any

import pytest
import torch
from model_changes import CHANGES

from tests.differential.cases import KINDS, Call, Case, Change, Entries, Features, case_of
from tests.differential.rounding import scores_are_rounding
from tests.differential.run import Answer, answer, model_of, rounding, run_case
from whisper_speedup.optimize.watch import Watch

GROUPS, EACH = 10, 10
EMPTY: dict[str, Any] = {}
ASKED = {"language": "en", "num_beams": 2}


def case(*steps: Entries | Change | Call, optimised: str = "model") -> Case:
    return Case(0, "made", optimised, {"seed": 1}, 2.0, steps)


TAKEN: Counter[str] = Counter()


@pytest.mark.parametrize("group", range(GROUPS))
def test_ours_does_what_transformers_does(group: int) -> None:
    found = {seed: run_case(case_of(seed)) for seed in range(group * EACH, (group + 1) * EACH)}
    assert {seed: result.why for seed, result in found.items() if result.verdict == "differs"} == EMPTY
    assert sum(result.calls - result.raised for result in found.values()) >= EACH / 2, "most are calls that succeed"
    for result in found.values():
        TAKEN.update(result.paths)


def test_both_paths_decode_some() -> None:
    assert not TAKEN or min(TAKEN["whole model"], TAKEN["decoder"]) >= 3


def test_a_seed_is_a_case() -> None:
    assert repr(case_of(17)) == repr(case_of(17)) != repr(case_of(18))
    assert [case_of(seed).kind for seed in range(len(KINDS))] == list(KINDS)


@pytest.mark.parametrize("optimised", ["model", "decoder"])
def test_stale_weights_are_a_difference(optimised: str, monkeypatch: pytest.MonkeyPatch) -> None:
    call = Call(Features(1), ASKED)
    steps = call, Change("loaded_by_assignment"), call
    assert run_case(case(*steps, optimised=optimised)).verdict == "same"
    look, looks = Watch.look, []

    def once(self: Watch, trained: int) -> bool:
        looks.append(self)
        return looks.count(self) == 1 and look(self, trained)

    monkeypatch.setattr(Watch, "look", once)
    monkeypatch.setattr(Watch, "differs", lambda self: False)
    assert run_case(case(*steps, optimised=optimised)).verdict == "differs"


def test_other_entries_are_a_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = Entries({"suppress_tokens": list(range(30, 60))}), Call(Features(2), ASKED)
    assert run_case(case(*steps)).verdict == "same"
    monkeypatch.setattr("whisper_speedup.fused.settings.token_ids", lambda value: (1,) if value == 1 else ())
    assert run_case(case(*steps)).verdict == "differs"


def test_what_is_drawn_covers_every_change() -> None:
    drawn = {step.name for seed in range(3000) for step in case_of(seed).steps if isinstance(step, Change)}
    assert drawn >= set(CHANGES)


def test_rounding_is_of_equal_scores_alone() -> None:
    one = case()
    call, model = Call(Features(3), {**ASKED, "suppress_tokens": list(range(75, 97))}), model_of(one)  # one window
    expected = answer(model, call)
    tokens = expected.value.clone()
    tokens[0, 2] = (tokens[0, 2] + 1) % 40
    other = Answer(tokens, prompts=expected.prompts)
    assert not rounding(model, call, expected, other)
    with torch.no_grad():
        model.proj_out.weight.zero_()  # every token is as likely
    assert rounding(model, call, expected, other)


def test_scores_as_far_from_the_exact_ones_as_transformers_are_rounding() -> None:
    exact, plain, infinite = (
        torch.zeros(3, dtype=torch.float64),
        torch.tensor([0.0, 1e-3, 0]),
        torch.tensor([0, -torch.inf, 0]),
    )
    assert scores_are_rounding([plain], -3 * plain, exact)
    assert not scores_are_rounding([plain], -30 * plain, exact)
    assert not scores_are_rounding([plain], infinite, exact)
