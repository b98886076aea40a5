"""A worker that rests between its turns, in this process, around an engine that only counts."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.run.fakes import Streaming
from tests.run.test_benchmark import Counting, profile  # noqa: F401  (a fixture: three tones and a broken file)
from whisper_speedup.audio.row import read_manifest
from whisper_speedup.errors import EngineLost, NoRoomError, UserError
from whisper_speedup.params.profile import Profile
from whisper_speedup.run.job import Job
from whisper_speedup.run.local import Checked, Clips, Kept
from whisper_speedup.run.messages import Ended, Failed, Item, Loaded, Lost, Rows, end_of
from whisper_speedup.run.worker import work

MANIFEST = Path("build/p/data/manifest.jsonl")


def turns(engine: Any, count: int, content: Profile) -> list[Any]:
    """What it says in `count` turns of clips c and a."""
    rows = {row.id: row for row in read_manifest(MANIFEST)}
    clips = [Item(at, rows[name]) for at, name in enumerate("ca")]
    once = content.model_copy(update={"measure": content.measure.model_copy(update={"repeats": 1})})
    job = Job(
        once, "counting", lambda name, measure: engine, Checked(Path("weights")), Kept(Clips(MANIFEST, "cpu"), clips),
        warmup=clips, extras=False, rests=True,
    )  # fmt: skip
    chunks = [clips] * count
    return list(work(job, lambda wait: chunks.pop() if chunks else []))


def test_load_warm_up_and_turns(profile: Profile) -> None:  # noqa: F811
    engine = Counting()
    loaded, first, second, end = turns(engine, 2, profile)
    assert engine.calls == ["load weights 5 cpu", *["warm_up"] * 5, *["generate"] * 4, "close"]
    assert isinstance(loaded, Loaded)
    for answer in (first, second):
        assert isinstance(answer, Rows)
        assert [one.row.id for one in answer.rows] == ["c", "a"]
        assert all(one.row.seconds and min(one.row.seconds) > 0 for one in answer.rows)
    assert isinstance(end, Ended)
    during = end.measured.conditions.during
    assert during is not None
    assert during.samples == 4  # both turns' first and last moments
    assert end.waiting.seconds >= 0
    assert torch.equal(engine.features[0], engine.features[2])


def test_a_batch_engine_decodes_one_by_one(profile: Profile) -> None:  # noqa: F811
    _, rows, _ = turns(Streaming(Path.cwd()), 1, profile)
    assert [one.row.id for one in rows.rows] == ["c", "a"]


def test_a_clip_s_own_fault_is_in_its_row(profile: Profile) -> None:  # noqa: F811
    _, rows, _ = turns(Counting(fails_at=1), 1, profile)
    assert [one.row.error for one in rows.rows] == ["this utterance is one too many.", None]


def test_an_engine_that_is_lost_ends_it(profile: Profile) -> None:  # noqa: F811
    with pytest.raises(EngineLost, match=r"^its process ended\.$"):
        turns(Counting(fails_at=2, fails_with=EngineLost("its process ended.")), 2, profile)


@pytest.mark.parametrize(
    ("error", "kind", "full"),
    [
        (NoRoomError("it needs 6 GiB."), Failed, True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), Lost, True),
        (torch.AcceleratorError("CUDA error: gone"), Lost, False),
        (UserError("it needs a newer GPU."), Failed, False),
    ],
)
def test_a_full_gpu_is_told_apart(error: Exception, kind: type[Any], full: bool) -> None:
    said = end_of(error)
    assert isinstance(said, kind)
    assert said.full == full
