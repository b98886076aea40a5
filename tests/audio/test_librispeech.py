"""LibriSpeech from the hub over real HTTP: what is fetched of it, in which order its clips come, what is refused."""

from io import BytesIO
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import soundfile

from tests.hub.content import DUMMY, LIBRISPEECH, SAMPLES
from tests.hub.server import TestHub
from whisper_speedup.audio.librispeech import open_librispeech, rows_cache, wanted
from whisper_speedup.disk.files import read_jsonl
from whisper_speedup.errors import UserError
from whisper_speedup.hub import revisions
from whisper_speedup.params.sources import LibriSpeech


def dataset(**changes: object) -> LibriSpeech:
    return LibriSpeech.model_validate(
        {
            "source": "librispeech",
            "dataset": LIBRISPEECH,
            "config": "clean",
            "split": "test",
            "revision": None,
            "limit": None,
            "variations": None,
            **changes,
        }
    )


def files(hub: TestHub) -> dict[str, bytes]:
    return hub.repositories["datasets", LIBRISPEECH].files


def test_one_split_in_order_and_nothing_else_fetched(hub: TestHub) -> None:
    clips = open_librispeech(dataset())
    assert [clip.id for clip in clips] == [f"61-70968-000{i}" for i in range(3)]
    samples = read_jsonl(SAMPLES / "transcripts.jsonl")[:3]
    assert [clip.reference for clip in clips] == [sample["text"].upper() for sample in samples]
    assert [clip.read() for clip in clips] == [(SAMPLES / f"{sample['id']}.flac").read_bytes() for sample in samples]
    assert {clip.speaker for clip in clips} == {"61"}
    assert hub.fetched() == {"README.md", "clean/test/0000.parquet", "clean/test/0001.parquet"}


def test_the_dummy_data_set(hub: TestHub) -> None:
    clips = open_librispeech(dataset(dataset=DUMMY, split="validation"))
    assert len(clips) == 3
    assert soundfile.info(BytesIO(clips[0].read())).samplerate == 16_000
    assert hub.fetched() == {"README.md", "clean/validation-00000-of-00001.parquet"}


def test_limit(hub: TestHub) -> None:
    assert [clip.id[-1] for clip in open_librispeech(dataset(limit=2))] == ["0", "1"]
    assert len(open_librispeech(dataset(limit=99))) == 3


def test_the_second_time_nobody_is_asked(hub: TestHub) -> None:
    first = [clip.id for clip in open_librispeech(dataset())]
    hub.stop()
    assert [clip.id for clip in open_librispeech(dataset())] == first
    assert rows_cache().is_dir()


def test_the_commit_and_what_it_held_are_recorded(hub: TestHub) -> None:
    open_librispeech(dataset())
    commit = hub.repositories["datasets", LIBRISPEECH].commit
    assert revisions.read() == {f"datasets/{LIBRISPEECH}": commit}
    content = files(hub)["clean/test/0001.parquet"]
    files(hub)["clean/test/0001.parquet"] = content[:-9] + b"!" + content[-8:]
    digest = "0" * 64
    with pytest.raises(UserError, match=r"0001\.parquet of the dataset .* must not change under a commit"):
        revisions.confirm(LIBRISPEECH, "dataset", commit, {"clean/test/0001.parquet": digest})


@pytest.mark.parametrize("card", [None, b"no front matter", b"---\nconfigs:\n- config_name: clean\n---\n"])
def test_without_a_useful_card_the_usual_places(hub: TestHub, card: bytes | None) -> None:
    files(hub)["clean/validation-00000-of-00001.parquet"] = files(hub)["clean/test/0001.parquet"]
    del files(hub)["README.md"]
    if card is not None:
        files(hub)["README.md"] = card
    assert len(open_librispeech(dataset())) == 3
    assert len(open_librispeech(dataset(split="validation"))) == 1


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"config": "dirty"}, "has no configuration 'dirty': choose from clean, other"),
        ({"split": "tset"}, f"clean, tset, is no split of {LIBRISPEECH}: choose from test, train.100"),
        ({"config": "other", "split": "test"}, "has no Parquet files at commit [0-9a-f]{40}"),
    ],
)
def test_unknown_config_and_split(hub: TestHub, changes: dict[str, str], why: str) -> None:
    del files(hub)["other/test/0000.parquet"]
    with pytest.raises(UserError, match=why):
        open_librispeech(dataset(**changes))


@pytest.mark.parametrize("pattern", ["/etc/*", "../../*.parquet", "[1, 2]"])
def test_a_card_that_names_files_elsewhere(hub: TestHub, pattern: str) -> None:
    card = f"---\nconfigs:\n- config_name: clean\n  data_files:\n  - split: test\n    path: [{pattern}]\n---\n"
    files(hub)["README.md"] = card.encode()
    with pytest.raises(UserError, match="names files outside its repository"):
        wanted(dataset(), hub.repositories["datasets", LIBRISPEECH].commit)


def test_columns_that_are_missing(hub: TestHub) -> None:
    for name in [name for name in files(hub) if name.startswith("clean/test/")]:
        out = BytesIO()
        pq.write_table(pq.read_table(BytesIO(files(hub)[name])).drop_columns(["text", "id"]), out)
        files(hub)[name] = out.getvalue()
    with pytest.raises(UserError, match="has no column id, text"):
        open_librispeech(dataset())


def test_a_damaged_file(hub: TestHub) -> None:
    files(hub)["clean/test/0000.parquet"] = b"PAR1 and then nothing"
    with pytest.raises(UserError, match="cannot be read") as caught:
        open_librispeech(dataset())
    assert len(str(caught.value).splitlines()) == 1


def test_nothing_is_left_in_the_working_directory(hub: TestHub) -> None:
    open_librispeech(dataset())
    assert [path.name for path in Path.cwd().iterdir()] == ["revisions.json"]
