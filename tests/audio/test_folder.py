import json
import os
import unicodedata
from pathlib import Path

import pytest

from whisper_speedup.audio.clips import Clip
from whisper_speedup.audio.folder import open_folder
from whisper_speedup.errors import UserError
from whisper_speedup.source_params import Folder


def folder(path: Path, limit: int | None = None) -> list[Clip]:
    return open_folder(Folder(source="folder", path=str(path), limit=limit, variations=None))


def put(root: Path, **files: str | bytes) -> Path:
    """Write files; `__` in a name stands for a slash, `_` for the dot before the suffix."""
    for name, content in files.items():
        path = root / ".".join(name.replace("__", "/").rsplit("_", 1))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


def test_a_directory_in_path_order_with_texts_beside(tmp_path: Path) -> None:
    put(tmp_path, b_wav=b"1", a__z_FLAC=b"2", a__b__c_mp3=b"3", b_txt="ten\n of clubs ", notes_txt="", b2_ogg=b"4")
    put(tmp_path, b2_txt=" ")
    clips = folder(tmp_path)
    assert [clip.id for clip in clips] == ["a/b/c", "a/z", "b", "b2"]
    assert [clip.read() for clip in clips] == [b"3", b"2", b"1", b"4"]
    assert [clip.reference for clip in clips] == [None, None, "ten of clubs", None]
    assert [clip.id for clip in folder(tmp_path, limit=2)] == ["a/b/c", "a/z"]


def test_hidden_files_are_passed_over_and_unsupported_audio_is_not(tmp_path: Path) -> None:
    put(tmp_path, x_m4a=b"", y_wav=b"")
    (tmp_path / "._y.wav").write_bytes(b"what macOS leaves on a USB stick")
    put(tmp_path / ".cache", z_wav=b"")
    assert [clip.id for clip in folder(tmp_path)] == ["x", "y"]


def test_two_clips_of_one_name(tmp_path: Path) -> None:
    put(tmp_path, a_wav=b"", a_mp3=b"")
    with pytest.raises(UserError, match=r"a\.mp3 and .*a\.wav are both called 'a': rename one"):
        folder(tmp_path)


def test_two_spellings_of_one_accent_are_one_name(tmp_path: Path) -> None:
    for form in ("NFC", "NFD"):
        (tmp_path / f"{unicodedata.normalize(form, 'café')}.wav").write_bytes(b"")
    if len(list(tmp_path.iterdir())) == 1:
        pytest.skip("this file system has one spelling")
    with pytest.raises(UserError, match="both called 'café'"):
        folder(tmp_path)


def test_names_that_are_no_text(tmp_path: Path) -> None:
    try:
        (tmp_path / os.fsdecode(b"na\xefve\xe2\x80\xa8x.wav")).write_bytes(b"")
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    [clip] = folder(tmp_path)
    assert clip.id == "na\\udcefve x"
    assert json.loads(json.dumps(clip.place, ensure_ascii=False).encode())


@pytest.mark.parametrize("name", ["nowhere", "nowhere.csv"])
def test_a_missing_path(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=rf"{name} does not exist: correct data\.path"):
        folder(tmp_path / name)


def test_an_empty_directory_and_a_strange_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no audio"):
        folder(tmp_path)
    put(tmp_path, list_xlsx=b"")
    with pytest.raises(UserError, match="neither a directory nor"):
        folder(tmp_path / "list.xlsx")


def test_a_csv_as_a_spreadsheet_writes_it(tmp_path: Path) -> None:
    text = '\ufeffaudio,text,id,speaker\r\nx/a.wav,"ten, of\r\nclubs",,7\r\nb.wav,,second,\r\n\r\n'
    clips = folder(put(tmp_path, x__a_wav=b"1", b_wav=b"2", list_csv=text) / "list.csv")
    assert [(clip.id, clip.reference, clip.speaker) for clip in clips] == [
        ("x/a", "ten, of clubs", "7"),
        ("second", None, None),
    ]
    assert clips[1].place == f"{tmp_path / 'b.wav'} (list.csv, line 4)"


def test_a_jsonl(tmp_path: Path) -> None:
    rows = '{"audio": "a.wav", "text": "naïve\u2028café", "speaker": 3}\n\n{"audio": "../up.wav", "text": null}\n'
    put(tmp_path, in__a_wav=b"", up_wav=b"", in__list_jsonl=rows)
    clips = folder(tmp_path / "in" / "list.jsonl")
    assert [(clip.id, clip.reference, clip.speaker) for clip in clips] == [
        ("a", "naïve café", "3"),
        ("../up", None, None),
    ]


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("l.csv", "audio,text\na.wav,x\nb.wav,y\n", r"l\.csv, line 3, names 'b\.wav', which is no file in"),
        ("l.jsonl", '{"audio": "a.wav"}\n{"audio": "no.wav"}', r"l\.jsonl, line 2, names 'no\.wav'"),
        ("l.csv", "audio\n" + "a" * 5000 + ".wav", "line 2, names 'aaaa"),
        ("l.csv", "audio\n.\n", r"line 2, names '\.'"),
        ("l.csv", "file,text\na.wav,x\n", r"l\.csv, line 2: .*"),
        ("l.csv", "text\nx\n", "line 2: no audio: each line needs audio"),
        ("l.csv", "audio,txt\na.wav,x\n", "unknown column 'txt': the columns are audio, text, id and speaker"),
        ("l.csv", "audio,text\na.wav,ten, of clubs\n", "line 2, has more cells than columns: quote"),
        ("l.csv", 'audio,text\na.wav,"ten\n', "is not valid CSV"),
        ("l.csv", "audio,text\n", "lists no clips"),
        ("l.csv", "", "lists no clips"),
        ("l.jsonl", "\n", "lists no clips"),
        ("l.jsonl", '{"audio": "a.wav"}\n{"audio": ', "line 2, is not valid JSON"),
        ("l.jsonl", "[]", "line 1: the line: "),
        ("l.jsonl", '{"audio": ["a.wav"]}', "line 1: audio: "),
        ("l.jsonl", '{"audio": ""}', "line 1: audio: "),
        ("l.csv", "audio,id\na.wav,x\na.wav,x\n", r"line 2\) and .*line 3\) are both called 'x'"),
        ("l.csv", "audio\na.wav\na.wav\n", "are both called 'a'"),
    ],
)
def test_mistakes_in_a_table(tmp_path: Path, name: str, text: str, why: str) -> None:
    (tmp_path / "a.wav").write_bytes(b"")
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=why) as caught:
        folder(tmp_path / name)
    assert len(str(caught.value).splitlines()) == 1


def test_texts_that_are_not_utf8(tmp_path: Path) -> None:
    put(tmp_path, a_wav=b"", a_txt=b"\xff\xfe", list_csv=b"audio\n\xe9.wav")
    with pytest.raises(UserError, match=r"a\.txt is not UTF-8 text: save it as UTF-8"):
        folder(tmp_path)
    with pytest.raises(UserError, match=r"list\.csv is not UTF-8 text"):
        folder(tmp_path / "list.csv")
