"""What ends a run early, and what is left of it."""

from pathlib import Path

import pytest
import torch

from whisper_speedup.errors import UserError
from whisper_speedup.files import read_jsonl
from whisper_speedup.partial import Partial, one_sentence

KEY = {"engine": "counting", "weights_sha256": "ab"}


def begun(folder: Path) -> Partial:
    partial = Partial(folder / "partial" / "counting.jsonl", KEY, 3)
    partial.append({"id": "a", "text": "l'été\u2028"})
    return partial


def test_each_row_is_on_disk_at_once(tmp_path: Path) -> None:
    partial = begun(tmp_path)
    for number in (1, 2):
        assert [row["id"] for row in read_jsonl(partial.path)[1:]] == ["a", "b"][:number]
        partial.append({"id": "b"})
    assert read_jsonl(partial.path)[0] == {"format": 1, "key": KEY, "total": 3}
    assert read_jsonl(partial.path)[1]["text"] == "l'été\u2028"
    partial.close()


def test_a_new_run_begins_anew(tmp_path: Path) -> None:
    begun(tmp_path).close()
    partial = Partial(tmp_path / "partial" / "counting.jsonl", KEY, 2)
    partial.close()
    assert len(partial.path.read_text().splitlines()) == 1


def test_what_is_done_leaves_nothing(tmp_path: Path) -> None:
    partial = begun(tmp_path)
    with one_sentence(partial):
        partial.append({"id": "b"})
    partial.remove()
    assert not list(tmp_path.iterdir())


def test_another_engines_rows_stay(tmp_path: Path) -> None:
    partial = begun(tmp_path)
    partial.close()
    (tmp_path / "partial" / "other.jsonl").write_text("")
    partial.remove()
    assert [path.name for path in tmp_path.rglob("*.jsonl")] == ["other.jsonl"]


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (UserError("the disk is wet."), "the disk is wet"),
        (
            torch.AcceleratorError("CUDA error: an illegal memory access was encountered\nSearch for it"),
            "illegal memory",
        ),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has"), "20.00 MiB more"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_early_end_says_what_is_kept(tmp_path: Path, error: Exception, sentence: str) -> None:
    partial = begun(tmp_path)
    with pytest.raises(UserError) as ended, one_sentence(partial):
        raise error
    said = str(ended.value)
    assert sentence in said
    assert said.endswith(f"; 1 of 3 utterances are kept in {partial.path}.")
    assert "\n" not in said
    assert [row.get("id") for row in read_jsonl(partial.path)] == [None, "a"]


def test_ctrl_c_says_what_is_kept(tmp_path: Path) -> None:
    partial = begun(tmp_path)
    with (
        pytest.raises(KeyboardInterrupt, match=r"^1 of 3 utterances are kept in .*counting\.jsonl\.$"),
        one_sentence(partial),
    ):
        raise KeyboardInterrupt


def test_a_bug_stays_a_bug_and_the_rows_stay_too(tmp_path: Path) -> None:
    partial = begun(tmp_path)
    with pytest.raises(ZeroDivisionError) as ended, one_sentence(partial):
        raise ZeroDivisionError
    assert ended.value.__notes__ == [partial.said()]
    assert partial.path.exists()


def test_before_the_first_row_nothing_is_said_of_rows() -> None:
    with pytest.raises(UserError, match=r"^not here\.$"), one_sentence():
        raise UserError("not here.")
    with pytest.raises(UserError, match="memory is full"), one_sentence():
        raise RuntimeError("CUDA error: out of memory")
