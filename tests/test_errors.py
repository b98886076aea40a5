"""Sentences that stay one line and hide nothing, whatever somebody else's names hold."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS
from tests.run.test_partial import KEY, SESSION
from whisper_speedup import errors
from whisper_speedup.audio import manifest
from whisper_speedup.audio.row import read_manifest
from whisper_speedup.cli import main
from whisper_speedup.disk.names import Names
from whisper_speedup.disk.progress import Progress
from whisper_speedup.errors import MOST, ClipError, LeftOutError, NotANumberError, UserError, readable, say, shown
from whisper_speedup.params.sources import Folder
from whisper_speedup.run.partial import Partial

LINES = ["\n", "\r", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029"]
HIDDEN = [
    "\x00",
    "\x1b",
    "\x7f",
    "\u200b",
    "\u200e",
    "\u200f",
    "\u061c",
    "\u202e",
    "\u2066",
    "\u2069",
    "\ufeff",
    "\udc80",
]
ODD = [*LINES, *HIDDEN]


def clean(sentence: str) -> bool:
    return sentence.isprintable() and len(sentence.splitlines()) == 1


@pytest.mark.parametrize("odd", ODD, ids=ascii)
def test_every_error_cleans_what_it_is_given(odd: str) -> None:
    for error in (UserError, ClipError, LeftOutError):
        sentence = str(error(f"a{odd}b: correct it."))
        assert clean(sentence)
        assert sentence == str(pickle.loads(pickle.dumps(error(sentence))))
        assert (sentence == "a b: correct it.") == (odd in LINES)
    assert clean(str(NotANumberError(f"x{odd}y", True)))


def test_ordinary_text_stays_as_it_is() -> None:
    for text in ("naïve  café: 你好 नमस्ते", "", "two  spaces"):
        assert readable(text) == text
    assert readable("a\u00a0b\u3000c") == "a b c"
    assert len(readable("x" * 10**6)) < MOST + 10


def test_nothing_but_say_writes_to_the_screen_s_error_stream() -> None:
    """Whoever prints a line there quotes names from outside sooner or later."""
    source = Path(errors.__file__).parent
    writers = {
        path.relative_to(source).as_posix() for path in source.rglob("*.py") if "=sys.stderr" in path.read_text()
    }
    assert writers == {"errors.py"}


@pytest.mark.parametrize("odd", ODD, ids=ascii)
def test_lines_on_the_screen(odd: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An interrupted run whose first line names what nobody here made, and an argument that there is not."""
    path = tmp_path / "counting.jsonl"
    first = {"format": 2, "key": {f"a{odd}b": 1}, "total": 1}
    path.write_text("".join(f"{json.dumps(line)}\n" for line in (first, {"id": "x", "error": None})), encoding="utf-8")
    Partial(path, KEY, Names(["x"]), SESSION).close()
    say(f"a{odd}b")
    with pytest.raises(SystemExit):
        main(["report", f"--a{odd}b"])
    lines = capsys.readouterr().err.split("\n")
    assert sum("was made with something else (a" in line for line in lines) == 1
    assert all(clean(line) for line in lines if line)


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(UserError) as error:
        call()
    return str(error.value)


@pytest.mark.parametrize("odd", [odd for odd in ODD if odd not in "\x00\udc80"], ids=ascii)
def test_names_in_files_and_of_files(odd: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = f"clip{odd}end"
    (tmp_path / name).mkdir()
    (tmp_path / name / f"{name}.wav").write_bytes(b"RIFF")
    folder = Folder(source="folder", path=str(tmp_path / name))
    assert clean(refusal(lambda: manifest.prepare(folder, tmp_path / "data")))
    rows = tmp_path / "manifest.jsonl"
    rows.write_text(json.dumps({"id": name, "note": {name: name}}, ensure_ascii=False) + "\n", encoding="utf-8")
    assert clean(refusal(lambda: read_manifest(rows)))
    table = tmp_path / f"{name}.csv"
    table.write_text(f'audio,text\n"{name}",x\n', encoding="utf-8")
    listed = Folder(source="folder", path=str(table))
    assert clean(refusal(lambda: manifest.prepare(listed, tmp_path / "data")))
    with Progress(name, 1, "clip") as progress:
        progress.advance()
    with pytest.raises(SystemExit) as ended:
        main(["report", "--profile", name])
    assert ended.value.code == 2
    assert all(clean(line) for line in capsys.readouterr().err.split("\n") if line)


@pytest.mark.parametrize("odd", ODD, ids=ascii)
def test_names_in_a_list_of_weights(odd: str, tmp_path: Path) -> None:
    """What a fresh clone's first run once found by chance."""
    data = json.dumps({"weight_map": {f"model{odd}x": f"part{odd}.safetensors"}}).encode()
    for number, names in enumerate((data, data.replace(b"weight_map", f"w{odd}".encode("utf-8", "surrogatepass")))):
        folder = tmp_path / str(number)
        folder.mkdir()
        assert clean(refusal(lambda names=names, folder=folder: TARGETS["weights_index"].read(names, folder)))


def test_an_integer_that_python_does_not_write() -> None:
    assert shown(16**5000) == "an integer of 20001 bits"
