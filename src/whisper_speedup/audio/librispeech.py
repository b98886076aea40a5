"""A LibriSpeech-shaped dataset on the hub, at one pinned commit.

Only the split in question is fetched: `load_dataset(name, split=…)` would download all of a configuration's splits
(datasets issue 4101), 29 GB for LibriSpeech clean. The files stay in the Hugging Face cache, so that HF_HUB_OFFLINE=1
works after the first time.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from whisper_speedup.audio.clips import Clip, one_line, optional
from whisper_speedup.audio.tally import Tally
from whisper_speedup.disk.files import sha256
from whisper_speedup.errors import UserError
from whisper_speedup.hub import downloads, revisions
from whisper_speedup.hub.downloads import Wanted
from whisper_speedup.params.sources import LibriSpeech


def open_librispeech(data: LibriSpeech, tally: Tally | None = None) -> list[Clip]:
    """The clips of one split in the dataset's order, the first `data.limit`. Raises UserError."""
    import datasets

    commit = revisions.resolve(data.dataset, "dataset", data.revision)
    files = _fetch(data, commit)
    datasets.disable_progress_bars()  # a few seconds at most, and in a log they are lines without an end
    try:
        rows = datasets.load_dataset("parquet", data_files={"split": [str(file) for file in files]}, split="split")
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise UserError(
            f"{_where(data)} cannot be read ({one_line(error)[:200]}): empty the Hugging Face cache."
        ) from None
    missing = {"id", "audio", "text"} - set(rows.column_names)
    if missing:
        raise UserError(
            f"{_where(data)} has no column {', '.join(sorted(missing))}: choose a LibriSpeech-shaped dataset."
        )
    rows = rows.cast_column("audio", datasets.Audio(decode=False))  # decoding here would need torchcodec
    if tally is not None:
        tally.held = len(rows)
    rows = rows.select(range(min(len(rows), data.limit or len(rows))))
    if not len(rows):
        raise UserError(f"{_where(data)} is empty: choose another split.")
    speakers = rows["speaker_id"] if "speaker_id" in rows.column_names else [None] * len(rows)
    return [
        Clip(one_line(name), _reader(rows, i), optional(text), optional(speaker), one_line(name))
        for i, (name, text, speaker) in enumerate(zip(rows["id"], rows["text"], speakers, strict=True))
    ]


def _reader(rows: Any, index: int) -> Callable[[], bytes]:
    def read() -> bytes:
        audio = rows[index]["audio"] or {}
        return audio.get("bytes") or b""

    return read


def rows_cache() -> Path:
    """Where `datasets` keeps a split's rows, as many bytes as its Parquet files: sound does not shrink any more."""
    import datasets

    return Path(datasets.config.HF_DATASETS_CACHE).expanduser()


def wanted(data: LibriSpeech, commit: str) -> list[Wanted]:
    """The split's Parquet files at `commit`, in order. Raises UserError when there are none."""
    patterns = _patterns(data, commit)
    for pattern in patterns:
        if not isinstance(pattern, str) or pattern.startswith("/") or ".." in Path(pattern).parts:
            raise UserError(f"{_where(data)} names files outside its repository ({pattern!r}): choose another dataset.")
    files = downloads.wanted(data.dataset, "dataset", commit, patterns)
    if not files:
        raise UserError(
            f"{_where(data)} has no Parquet files at commit {commit}: correct data.split, or go online once."
        )
    return files


def _fetch(data: LibriSpeech, commit: str) -> list[Path]:
    """Download the split's Parquet files at `commit`, or find them in the cache."""
    files = wanted(data, commit)
    folder = downloads.fetch(data.dataset, "dataset", commit, files)
    revisions.confirm(data.dataset, "dataset", commit, {file.name: sha256(folder / file.name) for file in files})
    return [folder / file.name for file in files]


def _patterns(data: LibriSpeech, commit: str) -> list[str]:
    """Where the dataset card puts this configuration's split; without a card, the hub's usual places."""
    from huggingface_hub import DatasetCard

    usual = [f"{data.config}/{data.split}-*.parquet", f"{data.config}/{data.split}/*.parquet"]
    path = downloads.small(data.dataset, "dataset", commit, "README.md")
    if path is None:
        return usual
    try:
        listed = DatasetCard.load(path).data.to_dict().get("configs") or []
        configs = {config["config_name"]: config.get("data_files") for config in listed}
    except (ValueError, yaml.YAMLError, TypeError, KeyError, AttributeError):  # whatever a stranger's card may hold
        raise UserError(f"the card of {data.dataset} cannot be read: choose another dataset or revision.") from None
    if not configs:
        return usual
    if data.config not in configs:
        known = ", ".join(map(str, configs))
        raise UserError(f"{data.dataset} has no configuration {data.config!r}: choose from {known}.")
    files = configs[data.config]
    if not isinstance(files, list) or not all(
        isinstance(entry, dict) and {"split", "path"} <= {*entry} for entry in files
    ):
        return usual
    splits = {str(entry["split"]): entry["path"] for entry in files}
    if data.split not in splits:
        raise UserError(f"{_where(data)} is no split of {data.dataset}: choose from {', '.join(splits)}.")
    chosen = splits[data.split]
    return chosen if isinstance(chosen, list) else [chosen]


def _where(data: LibriSpeech) -> str:
    return f"{data.dataset}, {data.config}, {data.split},"
