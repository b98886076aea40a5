"""Every reader of what a stranger may have made, and bytes to throw at it.

A target takes bytes and a folder of its own to work in. It may return, or refuse with one sentence on one line;
whatever else it does is a finding: another exception, a line break in the sentence, minutes of work, gigabytes of
memory. `seeds/NAME/` holds whole files to start from (made by the test suite's own writers of such files);
`findings/NAME/` what once was a finding, tried again by each test run.
"""

import copy
import json
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from hypothesis import strategies as st

from whisper_speedup.audio import manifest
from whisper_speedup.audio.decode import AudioError, decode
from whisper_speedup.audio.folder import open_folder
from whisper_speedup.audio.row import read_manifest
from whisper_speedup.checkpoints import ctranslate2
from whisper_speedup.checkpoints.conversion import whisper_state_dict
from whisper_speedup.checkpoints.folder import check
from whisper_speedup.checkpoints.prepare import checked_folder
from whisper_speedup.compare.runs import read_inputs
from whisper_speedup.disk.names import Names
from whisper_speedup.errors import UserError
from whisper_speedup.params.profile import load_params, load_profile
from whisper_speedup.params.sources import Folder
from whisper_speedup.run.partial import Partial, one_sentence
from whisper_speedup.run.rows import PartialKey, Result, Session

HERE = Path(__file__).parent
KEY = PartialKey.model_construct(engine="x")  # as in seeds/kept_rows


def audio(data: bytes, folder: Path) -> None:
    """The audio loader."""
    waveform = decode(data)
    assert 0 < len(waveform.samples) <= 480_000
    assert abs(waveform.samples).max() < float("inf")


def weights_ctranslate2(data: bytes, folder: Path) -> None:
    """The binary reader, and the renaming that follows it."""
    whisper_state_dict(ctranslate2.parse(data, "WhisperSpec", 3, "model.bin"), "model.bin")


def weights_safetensors(data: bytes, folder: Path) -> None:
    """A folder whose model.safetensors is this."""
    _whisper(folder, "model.safetensors", data)


def weights_torch(data: bytes, folder: Path) -> None:
    """A folder whose torch file is this."""
    (folder / "model.safetensors").unlink(missing_ok=True)
    _whisper(folder, "pytorch_model.bin", data)


def weights_index(data: bytes, folder: Path) -> None:
    """A folder whose list of shards is this."""
    (folder / "model.safetensors").unlink(missing_ok=True)
    _whisper(folder, "model.safetensors.index.json", data)


def model_config(data: bytes, folder: Path) -> None:
    """A folder whose config.json is this."""
    _whisper(folder, "config.json", data)


def model_json(data: bytes, folder: Path) -> None:
    """What the model stage leaves, as every reader of weights finds it."""
    (folder / "model.json").write_bytes(data)
    checked_folder(folder / "model.json")


def manifest_rows(data: bytes, folder: Path) -> None:
    """A manifest, and the clips that it names."""
    (folder / "manifest.jsonl").write_bytes(data)
    for row in read_manifest(folder / "manifest.jsonl"):
        manifest.load_audio(folder / "manifest.jsonl", row)


def clip_of_a_manifest(data: bytes, folder: Path) -> None:
    """A clip whose hash is right and whose bytes are anybody's."""
    from hashlib import sha256

    (folder / "audio").mkdir(exist_ok=True)
    (folder / "audio" / "x.flac").write_bytes(data)
    row = manifest.Row(
        id="x", audio="audio/x.flac", sha256=sha256(data).hexdigest(), duration_s=1, sampling_rate=16000,
        reference=None, speaker=None, cut_from_s=None, error=None,
    )  # fmt: skip
    assert len(manifest.load_audio(folder / "manifest.jsonl", row)) <= 480_000


def table_csv(data: bytes, folder: Path) -> None:
    """A user's CSV."""
    _table(folder / "list.csv", data)


def table_jsonl(data: bytes, folder: Path) -> None:
    """A user's JSONL."""
    _table(folder / "list.jsonl", data)


def transcript(data: bytes, folder: Path) -> None:
    """A .txt beside a clip."""
    (folder / "a.wav").touch()
    (folder / "a.txt").write_bytes(data)
    open_folder(Folder(source="folder", path=str(folder)))


def profile(data: bytes, folder: Path) -> None:
    """profiles/NAME.yaml."""
    (folder / "x.yaml").write_bytes(data)
    load_profile("x", folder)


def params(data: bytes, folder: Path) -> None:
    """params.yaml."""
    (folder / "params.yaml").write_bytes(data)
    load_params(folder / "params.yaml")


def kept_rows(data: bytes, folder: Path) -> None:
    """The rows of an interrupted run."""
    path = folder / "partial.jsonl"
    path.write_bytes(data)
    partial = Partial(path, KEY, Names(["a", "b", "c"]), Session(started="today"))
    with one_sentence(partial):
        assert {json.loads(line)["id"] for line in partial.lines()} <= {"a", "b", "c"}
        partial.extend([Result(id="c", error=None)])
    for line in path.read_bytes().split(b"\n")[:-1]:
        json.loads(line)


def results(data: bytes, folder: Path) -> None:
    """results.jsonl as compare finds it."""
    _runs(folder, "results.jsonl", data)


def run_json(data: bytes, folder: Path) -> None:
    """run.json as compare finds it."""
    _runs(folder, "run.json", data)


@dataclass(frozen=True)
class Target:
    """`kind` of its seeds: bytes, or text with structure (json, jsonl, yaml) that mutations may follow."""

    read: Callable[[bytes, Path], None]
    kind: str


TARGETS = {
    target.read.__name__: target
    for target in (
        Target(audio, "bytes"), Target(weights_ctranslate2, "bytes"), Target(weights_safetensors, "bytes"),
        Target(weights_torch, "bytes"), Target(weights_index, "json"), Target(model_config, "json"),
        Target(model_json, "json"), Target(manifest_rows, "jsonl"), Target(clip_of_a_manifest, "bytes"),
        Target(table_csv, "bytes"), Target(table_jsonl, "jsonl"), Target(transcript, "bytes"), Target(profile, "yaml"),
        Target(params, "yaml"), Target(kept_rows, "jsonl"), Target(results, "jsonl"), Target(run_json, "json"),
    )
}  # fmt: skip


def seeds(name: str) -> list[bytes]:
    """Whole files that the target reads."""
    return [path.read_bytes() for path in sorted((HERE / "seeds" / name).iterdir())]


def findings(name: str) -> list[Path]:
    """What once was a finding."""
    folder = HERE / "findings" / name
    return sorted(folder.iterdir()) if folder.is_dir() else []


def attempt(name: str, data: bytes, folder: Path) -> str | None:
    """Let the target read; the sentence with which it refuses. Anything else is raised: a finding."""
    try:
        TARGETS[name].read(data, folder)
    except (UserError, AudioError) as refusal:
        sentence = str(refusal)
        assert sentence
        assert sentence.isprintable(), f"more than one line, or something that hides: {sentence!r}"
        assert len(sentence) < 6000, f"{len(sentence)} characters: {sentence[:200]!r}"
        return sentence
    return None


def inputs(name: str) -> st.SearchStrategy[bytes]:
    """Seeds, changed: bytes anywhere, and where there is structure, values in it."""
    whole = seeds(name)
    byte_wise = changed_bytes(whole)
    kind = TARGETS[name].kind
    if kind == "bytes":
        return byte_wise
    return st.one_of(byte_wise, changed_values(whole, kind))


TOKENS = [
    b"\0", b"\xff", b"\0" * 4, b"\xff" * 4, b"\xff" * 8, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x80\0\0\0",
    b"\xe2\x80\xa8", b"\xc2\x85", b"\n", b"\r", b"\r\n", b'"', b"'", b"{", b"}", b"[", b"]", b",", b":", b"- ", b"&a ",
    b"*a", b"!!", b"!!int ", b"!!timestamp ", b"!!bool ", b"!!binary ", b"!!python/object:os.system ", b"? ", b"<<: ",
    b"2020-99-99", b"1e999", b"-1", b"NaN", b"Infinity", b"null", b"true", b"\\ud800", b"\\u0000", b"../", b"/", b"%",
    b"9" * 5000, b"[" * 2000, b"{\"a\":" * 2000, b"\xef\xbb\xbf", b"RIFF", b"fLaC", b"OggS", b"ID3", b"PK\x03\x04",
]  # fmt: skip


def changed_bytes(whole: list[bytes]) -> st.SearchStrategy[bytes]:
    """A seed with a few edits. One number decides them all: a draw for each would take longer than reading the file."""
    return st.integers(0, 2**63).map(lambda number: _edited(whole, random.Random(number)))


def _edited(whole: list[bytes], chance: random.Random) -> bytes:
    data = bytearray(chance.choice(whole))
    for _ in range(chance.randint(0, 6)):
        place = chance.randrange(len(data) + 1) if chance.random() < 0.6 else chance.randrange(min(len(data), 256) + 1)
        size = chance.randint(1, 64)
        kind = chance.choice(["set", "set", "token", "over", "cut", "repeat", "end", "splice", "text"])
        if kind == "set":
            data[place : place + 1] = bytes([chance.randrange(256)])
        elif kind == "token":
            data[place:place] = chance.choice(TOKENS)
        elif kind == "over":
            token = chance.choice(TOKENS)
            data[place : place + len(token)] = token
        elif kind == "cut":
            del data[place : place + size]
        elif kind == "repeat":
            data[place:place] = data[place : place + size] * chance.randint(1, 40)
        elif kind == "end":
            del data[place:]
        elif kind == "splice":
            other = chance.choice(whole)
            data[place:] = other[chance.randrange(len(other) + 1) :]
        else:
            letters = [chr(chance.randrange(0x110000)) for _ in range(chance.randint(1, 6))]
            data[place:place] = "".join(letters).encode("utf-8", "surrogatepass")
    return bytes(data)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.integers(-3, 70000) | st.floats() | st.text(max_size=30)
    | st.sampled_from(["../x", "/etc/passwd", "\ud800", "", "a\u2028b", "x" * 3000, "model.safetensors", "a", "sdpa"])
    | st.just(10**400),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=6,
)  # fmt: skip


@st.composite
def changed_values(draw: st.DrawFn, whole: list[bytes], kind: str) -> bytes:
    """A seed with values, keys or rows changed, and well-formed still."""
    text = draw(st.sampled_from(whole)).decode()
    documents: list[Any] = {
        "json": lambda: [json.loads(text)],
        "jsonl": lambda: [json.loads(line) for line in text.splitlines() if line],
        "yaml": lambda: [yaml.safe_load(text)],
    }[kind]()
    for _ in range(draw(st.integers(1, 4))):
        number = draw(st.integers(0, len(documents) - 1))
        documents[number] = draw(_changed(documents[number]))
        if kind == "jsonl" and draw(st.booleans()):
            documents.insert(number, copy.deepcopy(draw(st.sampled_from(documents))))
    if kind == "yaml":
        try:
            return yaml.safe_dump(documents[0], allow_unicode=draw(st.booleans())).encode("utf-8", "surrogatepass")
        except (yaml.YAMLError, ValueError):
            return b""
    lines = [json.dumps(document, ensure_ascii=draw(st.booleans())) for document in documents]
    return "\n".join([*lines, ""]).encode("utf-8", "surrogatepass")


@st.composite
def _changed(draw: st.DrawFn, document: Any) -> Any:
    """The document with one value replaced, added or removed, at any depth."""
    if isinstance(document, dict) and document and draw(st.integers(0, 9)):
        key = draw(st.sampled_from(sorted(document, key=str)))
        what = draw(st.sampled_from(["into", "into", "into", "remove", "add"]))
        changed = dict(document)
        if what == "into":
            changed[key] = draw(_changed(document[key]))
        elif what == "remove":
            del changed[key]
        else:
            changed[draw(st.text(max_size=12))] = draw(VALUES)
        return changed
    if isinstance(document, list) and document and draw(st.integers(0, 3)):
        place = draw(st.integers(0, len(document) - 1))
        return [*document[:place], draw(_changed(document[place])), *document[place + 1 :]]
    return draw(VALUES)


def _whisper(folder: Path, name: str, data: bytes) -> None:
    """check() of a whole tiny checkpoint in which one file is `data`."""
    for path in (HERE / "seeds" / "folder").iterdir():
        if path.name != "model.safetensors" or name in {"model.safetensors", "config.json"}:
            shutil.copy(path, folder)
    (folder / name).write_bytes(data)
    check(folder)


def _table(path: Path, data: bytes) -> None:
    (path.parent / "a.wav").touch()
    path.write_bytes(data)
    clips = open_folder(Folder(source="folder", path=str(path)))
    json.dumps([[clip.id, clip.reference, clip.speaker, clip.place] for clip in clips], ensure_ascii=False).encode()


def _runs(folder: Path, name: str, data: bytes) -> None:
    """A profile's build folder with one run, in which one file is `data` and says that it is whole."""
    from whisper_speedup.disk.files import sha256

    shutil.copytree(HERE / "seeds" / "runs", folder, dirs_exist_ok=True)
    run = folder / "runs" / "huggingface"
    run.mkdir(parents=True, exist_ok=True)
    for given in ("results.jsonl", "run.json"):
        source = (HERE / "seeds" / ("results" if given == "results.jsonl" else "run_json") / "whole").read_bytes()
        (run / given).write_bytes(data if given == name else source)
    if name == "results.jsonl":
        about = json.loads((run / "run.json").read_bytes())
        about["results_sha256"] = sha256(run / "results.jsonl")
        (run / "run.json").write_text(json.dumps(about))
    read_inputs(folder, "x", ["huggingface"])
