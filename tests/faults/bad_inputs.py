"""What a person, a download or a disk can get wrong, each as a change to a project that works.

A case: the stage that meets it, and what breaks the project, run in its folder. The sentence that the stage must then
end with is in sentences.yaml, under the case's name.
"""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile
import yaml

from whisper_speedup.disk.files import read_json, read_jsonl, sha256, write_json, write_jsonl

DECODE = "decode --engine fused"
PROFILE = Path("profiles/bundled.yaml")
MANIFEST = Path("build/bundled/data/manifest.jsonl")
MODEL = Path("build/bundled/model.json")
CONFIG = Path("whisper/config.json")
RUN = Path("build/bundled/runs/fused")
REPORT = Path("reports/bundled")


class Case(NamedTuple):
    name: str
    stage: str
    breaks: Callable[[], Any]


def edit(*keys: str, value: Any = None, path: Path = PROFILE) -> Callable[[], None]:
    """Set a key of a YAML or JSON file; remove it where `value` is KeyError."""

    def change() -> None:
        content = yaml.safe_load(path.read_text())
        section = content
        for key in keys[:-1]:
            section = section.setdefault(key, {}) if isinstance(section, dict) else section[key]
        if value is KeyError:
            del section[keys[-1]]
        else:
            section[keys[-1]] = value
        path.write_text(json.dumps(content) if path.suffix == ".json" else yaml.safe_dump(content, sort_keys=False))

    return change


def text(path: str | Path, content: str | bytes) -> Callable[[], object]:
    """Write a file."""
    return lambda: Path(path).write_bytes(content if isinstance(content, bytes) else content.encode())


def gone(path: str | Path) -> Callable[[], None]:
    """Remove a file or a folder."""
    return lambda: shutil.rmtree(path) if Path(path).is_dir() else Path(path).unlink()


def table(name: str, content: str | bytes) -> Callable[[], None]:
    """Let the profile read a table with this content."""

    def change() -> None:
        text(Path("tones") / name, content)()
        edit("data", "path", value=f"tones/{name}")()

    return change


def only_clip(content: bytes) -> Callable[[], None]:
    """Let the profile read a folder with one clip of these bytes."""

    def change() -> None:
        Path("one").mkdir()
        Path("one/clip.wav").write_bytes(content)
        edit("data", "path", value="one")()

    return change


def samples(**values: Any) -> Callable[[], None]:
    """Let the profile read samples/, as it is here."""

    def change() -> None:
        edit("data", value={"source": "samples", "clips": None, "variations": None, **values})()

    return change


def both(*changes: Callable[[], Any]) -> Callable[[], None]:
    """One after the other."""
    return lambda: [change() for change in changes] and None


def cut(path: str | Path, part: float) -> Callable[[], object]:
    """Keep the first part of a file."""
    return lambda: Path(path).write_bytes(Path(path).read_bytes()[: int(Path(path).stat().st_size * part)])


def flip(path: str | Path) -> Callable[[], object]:
    """Change the last bit of a file."""
    return lambda: Path(path).write_bytes(Path(path).read_bytes()[:-1] + bytes([Path(path).read_bytes()[-1] ^ 1]))


def wav(samples: Any, rate: int = 16000, **options: Any) -> bytes:
    """A file's bytes."""
    import io

    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, **{"format": "WAV", **options})
    return buffer.getvalue()


class Harm:
    """A pickle that would write a file when it is loaded."""

    def __reduce__(self) -> Any:
        return (open, ("harmed", "w"))


def row_of(path: Path, change: Callable[[dict[str, Any]], Any]) -> Callable[[], None]:
    """Change the first row of a JSON-lines file."""

    def apply() -> None:
        rows = read_jsonl(path)
        change(rows[0])
        write_jsonl(path, rows)

    return apply


def results(change: Callable[[dict[str, Any]], Any]) -> Callable[[], None]:
    """Change the first row of a run's results, and let run.json know that file."""

    def apply() -> None:
        row_of(RUN / "results.jsonl", change)()
        write_json(RUN / "run.json", read_json(RUN / "run.json") | {"results_sha256": sha256(RUN / "results.jsonl")})

    return apply


def no_safetensors(*then: Callable[[], Any]) -> Callable[[], None]:
    return both(gone("whisper/model.safetensors"), *then)


def all_failed() -> None:
    rows = read_jsonl(MANIFEST)
    write_jsonl(MANIFEST, [row | {"audio": None, "sha256": None, "error": "lost."} for row in rows])


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{letter}: &{letter} [{','.join(['*' + before] * 9)}]\n"
    for before, letter in zip("abcdefgh", "bcdefghi", strict=True)
)
HALF = np.full(8000, 0.1, np.float32)
CASES = [
    # params.yaml and the profile
    Case("no params", "data", gone("params.yaml")),
    Case("params that is no YAML", "data", text("params.yaml", "profile: [bundled\n")),
    Case("empty params", "data", text("params.yaml", "")),
    Case("params of words", "data", text("params.yaml", "just words\n")),
    Case("params in UTF-16", "data", text("params.yaml", b"\xff\xfea\0")),
    Case("params with an unknown engine", "compare", text("params.yaml", "profile: bundled\nengines: [fsued]\n")),
    Case("params with no engine", "compare", text("params.yaml", "profile: bundled\nengines: []\n")),
    Case("params with an unknown key", "data", text("params.yaml", "profile: bundled\nengines: [fused]\nbeams: 5\n")),
    Case("params with a command", "profile", text("params.yaml", "profile: 'x; rm -rf .'\nengines: [fused]\n")),
    Case("a misspelt profile", "data --profile bundeld", lambda: None),
    Case("a profile that is a path", "report --profile ../bundled", lambda: None),
    Case("a profile in force that is gone", "data", gone(PROFILE)),
    Case("a profile that is no YAML", "data", text(PROFILE, "data: {\n")),
    Case("a profile with an unknown key", "data", edit("generation", "beams", value=5)),
    Case("a profile with a key too few", "data", edit("data", "path", value=KeyError)),
    Case("no beams", "data", edit("generation", "num_beams", value=0)),
    Case("beams in words", "data", edit("generation", "num_beams", value="five")),
    Case("too many tokens", "data", edit("generation", "max_length", value=449)),
    Case("a length penalty that is no number", "data", edit("generation", "length_penalty", value=float("nan"))),
    Case("an unknown source", "data", edit("data", "source", value="tape")),
    Case("an unknown device", "data", edit("measure", "device", value="tpu")),
    Case("an empty title", "data", edit("report", "title", value="")),
    Case("a date that is none", "data", text(PROFILE, "data: 2020-99-99\n")),
    Case("a YAML bomb", "data", lambda: PROFILE.write_text(BOMB + PROFILE.read_text().replace("clips", "klips")
                                                          .replace("path: tones", "path: *i"))),
    Case("a YAML of brackets", "data", text(PROFILE, "[" * 5000)),
    Case("a YAML that runs code", "data", text(PROFILE, "data: !!python/object/apply:os.system [touch harmed]\n")),
    # speech
    Case("no such folder", "data", edit("data", "path", value="nowhere")),
    Case("an empty folder", "data", both(lambda: Path("empty").mkdir(), edit("data", "path", value="empty"))),
    Case("a folder that is a spreadsheet", "data", table("list.xlsx", b"PK")),
    Case("a table with a clip that is not there", "data", table("list.csv", "audio,text\n0.wav,x\ngone.wav,y\n")),
    Case("a table with a strange column", "data", table("list.csv", "audio,txt\n0.wav,x\n")),
    Case("a table without audio", "data", table("list.csv", "text\nx\n")),
    Case("a table with a comma too many", "data", table("list.csv", "audio,text\n0.wav,ten, of clubs\n")),
    Case("a table with an open quote", "data", table("list.csv", 'audio,text\n0.wav,"ten\n')),
    Case("a table in Latin-1", "data", table("list.csv", b"audio\n\xe9.wav\n")),
    Case("an empty table", "data", table("list.csv", "audio,text\n")),
    Case("a table that names a clip twice", "data", table("list.csv", "audio\n0.wav\n0.wav\n")),
    Case("a table with a name too long", "data", table("list.csv", f"audio\n{'a' * 300}.wav\n")),
    Case("a list that is cut", "data", table("list.jsonl", '{"audio": "0.wav"}\n{"audio": ')),
    Case("a list of lists", "data", table("list.jsonl", "[]\n")),
    Case("a list with a number of 5000 digits", "data", table("list.jsonl", f'{{"audio": {"9" * 5000}}}\n')),
    Case("a list of brackets", "data", table("list.jsonl", "[" * 100000)),
    Case("two clips of one name", "data", lambda: shutil.copy("tones/0.wav", "tones/0.flac")),
    Case("a transcript in Latin-1", "data", text("tones/0.txt", b"caf\xe9")),
    Case("a clip without a byte", "data", only_clip(b"")),
    Case("a clip that is a text", "data", only_clip(b"hello, world")),
    Case("a clip of a header alone", "data", only_clip(wav(HALF)[:44])),
    Case("a clip that is cut", "data", only_clip(wav(HALF)[:9000])),
    Case("a clip with NaN", "data", only_clip(wav(np.full(800, np.nan, np.float32), subtype="FLOAT"))),
    Case("a clip of 8 bits in 16", "data", only_clip(wav(HALF)[:34] + b"\x08" + wav(HALF)[35:])),
    Case("a clip of 64 channels", "data", only_clip(wav(np.zeros((80, 64), np.float32), subtype="PCM_16"))),
    Case("a clip of an unknown kind", "data", only_clip(b"\0\0\0\x20ftypM4A " + bytes(800))),
    Case("a clip at 500 kHz", "data", only_clip(wav(HALF, 500_000))),
    Case("a sample that there is none of", "data", samples(clips=["cards-099"])),
    Case("a sample that changed", "data", both(samples(), flip("samples/cards-001.flac"))),
    Case("a sample that is gone", "data", both(samples(), gone("samples/cards-001.flac"))),
    Case("samples without their transcripts", "data", both(samples(), gone("samples/transcripts.jsonl"))),
    Case("transcripts of something else", "data", both(samples(), text("samples/transcripts.jsonl", '{"id": "x"}\n'))),
    # weights
    Case("no such model", "model", edit("model", "path", value="nowhere")),
    Case("a model without weights", "model", gone("whisper/model.safetensors")),
    Case("a model without a tokenizer", "model", gone("whisper/tokenizer.json")),
    Case("a model of another kind", "model", edit("model_type", value="bert", path=CONFIG)),
    Case("a configuration that is cut", "model", cut("whisper/config.json", 0.5)),
    Case("a configuration that is a list", "model", text("whisper/config.json", "[]")),
    Case("a configuration of brackets", "model", text("whisper/config.json", "[" * 100000)),
    Case("a model that is wider than its weights", "model", edit("d_model", value=24, path=CONFIG)),
    Case("a model with more layers than weights", "model",
         edit("decoder_layers", value=2, path=CONFIG)),
    Case("a model of a million layers", "model", edit("encoder_layers", value=10**6, path=CONFIG)),
    Case("a model that fetches its attention", "model",
         edit("attn_implementation", value="someone/kernels", path=CONFIG)),
    Case("a quantised model", "model", edit("quantization_config", value={"bits": 4}, path=CONFIG)),
    Case("other mel bands", "model", edit("feature_size", value=128, path=Path("whisper/preprocessor_config.json"))),
    Case("weights that are cut", "model", cut("whisper/model.safetensors", 0.5)),
    Case("weights that are a text", "model", text("whisper/model.safetensors", "hello")),
    Case("weights that are code", "model",
         no_safetensors(lambda: Path("whisper/pytorch_model.bin").write_bytes(pickle.dumps(Harm(), protocol=2)))),
    Case("an index that leaves its folder", "model", no_safetensors(
        text("whisper/model.safetensors.index.json", '{"weight_map": {"x": "../profiles/bundled.yaml"}}'))),
    Case("an index without a map", "model", no_safetensors(text("whisper/model.safetensors.index.json", "{}"))),
    Case("an index of a shard that is not there", "model", no_safetensors(
        text("whisper/model.safetensors.index.json", '{"weight_map": {"x": "gone.safetensors"}}'))),
    Case("a tokenizer that is empty", "model", text("whisper/tokenizer.json", "{}")),
    # what the stages leave for each other
    Case("a misspelt engine", "decode --engine fsued", lambda: None),
    Case("half precision on a CPU", DECODE, edit("measure", "fused", "precision", value="half")),
    Case("no manifest", DECODE, gone(MANIFEST)),
    Case("a manifest that is cut", DECODE, cut(MANIFEST, 0.9)),
    Case("a manifest that leaves its folder", DECODE, row_of(MANIFEST, lambda row: row.update(audio="../x.flac"))),
    Case("a manifest without a hash", DECODE, row_of(MANIFEST, lambda row: row.pop("sha256"))),
    Case("a manifest that names a clip twice", DECODE, row_of(MANIFEST, lambda row: row.update(id="1"))),
    Case("a manifest without one clip", DECODE, all_failed),
    Case("no model.json", DECODE, gone(MODEL)),
    Case("a model.json that is cut", DECODE, text(MODEL, '{"source": "loc')),
    Case("a model.json of something else", DECODE, text(MODEL, "{}")),
    Case("weights with one bit changed", DECODE, flip("whisper/model.safetensors")),
    Case("weights of another size", DECODE, cut("whisper/model.safetensors", 0.9)),
    Case("weights that are gone", DECODE, gone("whisper")),
    Case("a folder with a file more", DECODE, text("whisper/added_tokens.json", "{}")),
    Case("a run that is missing", "compare", gone(RUN)),
    Case("a run without its results", "compare", gone(RUN / "results.jsonl")),
    Case("results that changed since", "compare", row_of(RUN / "results.jsonl", lambda row: row.update(text="hello"))),
    Case("results without a time", "compare", results(lambda row: row.update(seconds=[]))),
    Case("results of strangers", "compare", results(lambda row: row.update(id="x"))),
    Case("results with tokens in words", "compare", results(lambda row: row.update(tokens=["a"]))),
    Case("a run.json that is cut", "compare", text(RUN / "run.json", '{"engine": "fu')),
    Case("a run of other data", "compare", edit("data_sha256", value="0" * 64, path=RUN / "run.json")),
    Case("a run with other weights", "compare", edit("weights_sha256", value="0" * 64, path=RUN / "run.json")),
    Case("a run with another tokenizer", "compare", edit("model_sha256", value="0" * 64, path=RUN / "run.json")),
    Case("a run of another engine", "compare", edit("engine", value="kernl", path=RUN / "run.json")),
    Case("nothing to report", "report", gone(REPORT)),
    Case("a report of another version", "report", edit("format", value=99, path=REPORT / "context.json")),
    Case("a report that is cut", "report", text(REPORT / "metrics.json", '{"fused.')),
    Case("a build that is a file", "data", both(gone("build"), text("build", ""))),
]  # fmt: skip
