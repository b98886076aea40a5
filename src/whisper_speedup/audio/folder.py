"""A user's own recordings: a directory with .txt files beside the clips, or a table that lists them (table.py).

LibriSpeech's own layout is read too: SPEAKER/CHAPTER/SPEAKER-CHAPTER.trans.txt holds a line "ID TEXT" for each clip.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import soundfile

from whisper_speedup.audio.clips import Clip, one_line, optional, reader
from whisper_speedup.audio.table import TABLES, name, read_table
from whisper_speedup.audio.tally import Tally
from whisper_speedup.audio.texts import MAX_TEXT_BYTES as MAX_TEXT_BYTES
from whisper_speedup.audio.texts import read_text
from whisper_speedup.errors import UserError, shown
from whisper_speedup.params.sources import Folder

TRANSCRIPTS = ".trans.txt"
# What libsndfile reads, by its own names for them and by those that files have.
_READ = {f".{kind.lower()}" for kind in soundfile.available_formats()} - {".mat4", ".mat5", ".wavex"} | {
    *(".oga", ".opus", ".mp2", ".mp1", ".mpga", ".mpeg", ".mpg", ".aif", ".aifc", ".snd", ".sph", ".wave", ".bwf"),
    *(".8svx", ".iff", ".sf"),
}
# What it cannot read; listed, so that the report says so and how to convert it, in place of passing over a recording.
_LISTED = {
    *(".m4a", ".m4b", ".mp4", ".m4v", ".mov", ".3gp", ".3g2", ".3gpp", ".aac", ".wma", ".wmv", ".asf", ".amr", ".awb"),
    *(".webm", ".weba", ".mka", ".mkv", ".spx", ".ogv", ".ogx", ".ape", ".wv", ".tta", ".mpc", ".dsf", ".dff", ".ra"),
    *(".rm", ".avi", ".flv", ".f4a", ".gsm", ".vox", ".ac3", ".eac3", ".dts", ".alac", ".adts", ".qcp", ".pcm"),
}
SUFFIXES = _READ | _LISTED


def open_folder(data: Folder, tally: Tally | None = None) -> list[Clip]:
    """The clips at `data.path`, sorted by path or in the table's order, the first `data.limit`; the rest is counted.

    Raises UserError.
    """
    path = Path(data.path).expanduser()
    tally = tally or Tally()
    if path.is_dir():
        clips = _directory(path, tally)
    elif path.is_file() and path.suffix.lower() in TABLES:
        clips = read_table(path, tally)
    elif path.exists():
        raise UserError(
            f"{path} is neither a directory nor a .csv, .tsv or .jsonl file: correct data.path in the profile."
        )
    else:
        raise UserError(f"{path} does not exist: correct data.path in the profile.")
    first: dict[str, Clip] = {}
    for clip in clips:
        if clip.id in first:
            both = f"{first[clip.id].place} and {clip.place} are both called {shown(clip.id)}"
            raise UserError(f"{both}: rename one, or list them in a CSV with ids.")
        first[clip.id] = clip
    tally.held = len(clips)
    return clips[: data.limit]


def _directory(root: Path, tally: Tally) -> list[Clip]:
    """The recordings below `root`, each with the transcript beside it."""
    clips: dict[str, Clip] = {}
    for files in _folders(root, tally).values():
        audio = [path for path in files if path.suffix.lower() in SUFFIXES]
        texts = _Texts([path for path in files if path.suffix.lower() == ".txt"], audio)
        for path in audio:
            within = path.relative_to(root)
            own, line = texts.beside(path), texts.lines.pop(path.stem, None)
            text = read_text(own) if own is not None else line
            speaker = path.stem.split("-")[0] if own is None and line is not None and _librispeech(path) else None
            clip = Clip(name(within), reader(path), optional(text), speaker, one_line(within))
            clips[within.as_posix()] = clip
        for path in sorted(set(files) - set(audio) - texts.used):
            tally.leave(_kind(path), path.relative_to(root))
        if texts.lines:
            tally.remarks[f"lines of {TRANSCRIPTS} without their recording"] += len(texts.lines)
    if not clips:
        there = f"; {tally.left()}" if tally.passed_over else ""
        raise UserError(
            f"{root} holds no audio (WAV, FLAC, MP3 or OGG{there}): put recordings there or correct data.path."
        )
    return [clips[path] for path in sorted(clips)]


def _folders(root: Path, tally: Tally) -> dict[str, list[Path]]:
    """The files of `root` and of each folder below it, links followed, but no folder twice."""
    found: dict[str, list[Path]] = {}
    seen: set[Path] = set()
    waiting, linked = [root], list[Path]()
    while waiting or linked:
        folder = waiting.pop() if waiting else linked.pop(0)  # real folders first: a link may lead to one of them
        if (real := folder.resolve()) in seen:
            continue
        seen.add(real)
        try:
            entries = sorted(folder.iterdir())
        except OSError as error:
            raise UserError(f"{folder} cannot be listed ({error.strerror}): correct its permissions.") from None
        for path in entries:
            if path.name.startswith("."):
                tally.leave("hidden", path.relative_to(root))
            elif path.is_dir():
                (linked if path.is_symlink() else waiting).append(path)
            elif path.is_file() or path.is_symlink():  # a link that leads nowhere becomes a row with an error
                found.setdefault(str(folder), []).append(path)
            else:
                tally.leave("of a special kind", path.relative_to(root))
    return found


class _Texts:
    """The .txt files of one folder, and which of them its recordings have used."""

    def __init__(self, texts: list[Path], audio: list[Path]) -> None:
        listings = [path for path in texts if path.name.lower().endswith(TRANSCRIPTS)]
        self.lines = {key: text for path in listings for key, text in _lines(path)}
        self.used = set(listings)
        self.spelled: dict[Callable[[str], str], dict[str, list[Path]]] = {_same: {}, _nfc: {}, _folded: {}}
        for path in sorted(set(texts) - self.used):
            for spelling, known in self.spelled.items():
                known.setdefault(spelling(path.stem), []).append(path)
        self.stems = {_nfc(path.stem) for path in audio}
        self.sharing = Counter(_folded(stem) for stem in self.stems)

    def beside(self, audio: Path) -> Path | None:
        """The transcript of `audio`, clip.txt or clip.wav.txt: by its very name, else whatever its case and accents.

        Raises UserError when it could be several.
        """
        for wanted in (audio.stem, audio.name):
            for spelling, known in self.spelled.items():
                found = known.get(spelling(wanted), [])
                if spelling is _folded:  # what is another recording's by its very name is not this one's
                    found = [path for path in found if _nfc(path.stem) not in self.stems]
                found = [path for path in found if path.suffix == ".txt"] or found
                if len(found) > 1 or (found and spelling is _folded and self.sharing[_folded(audio.stem)] > 1):
                    raise UserError(f"{found[0]} and {audio} may belong together, and so may others: rename them.")
                if found:
                    self.used.add(found[0])
                    return found[0]
        return None


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """(id, text) of LibriSpeech's transcripts."""
    for line in read_text(path).split("\n"):
        key, *text = line.split(None, 1)[:2] or [""]
        if key:
            yield key, "".join(text)


def _librispeech(path: Path) -> bool:
    """Whether it lies as LibriSpeech's files do, SPEAKER/CHAPTER/SPEAKER-CHAPTER-NUMBER."""
    parts = re.fullmatch(r"(\d+)-(\d+)-\d+", path.stem)
    return parts is not None and path.parts[-3:-1] == (parts[1], parts[2])


def _kind(path: Path) -> str:
    suffix = one_line(path.suffix.lower()) or "without a suffix"
    if suffix == ".txt":
        return ".txt without a recording"
    return f"{suffix}, which data.path may name" if suffix in TABLES else suffix


def _same(text: str) -> str:
    return text


def _nfc(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _folded(text: str) -> str:
    return _nfc(_nfc(text).casefold())
