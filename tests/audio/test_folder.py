import json
import os
import unicodedata
from pathlib import Path

import pytest

from whisper_speedup.audio.clips import Clip
from whisper_speedup.audio.folder import open_folder
from whisper_speedup.audio.tally import Tally
from whisper_speedup.errors import UserError
from whisper_speedup.params.sources import Folder


def folder(path: Path, limit: int | None = None) -> list[Clip]:
    return open_folder(Folder(source="folder", path=str(path), limit=limit))


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
    assert clips[1].place == "b.wav (list.csv, line 4)"


def test_a_jsonl(tmp_path: Path) -> None:
    rows = '{"audio": "a.wav", "text": "naïve\u2028café", "speaker": 3}\n\n{"audio": "../up.wav", "text": null}\n'
    put(tmp_path, in__a_wav=b"", up_wav=b"", in__list_jsonl=rows)
    clips = folder(tmp_path / "in" / "list.jsonl")
    assert [(clip.id, clip.reference, clip.speaker) for clip in clips] == [
        ("a", "naïve café", "3"),
        ("up", None, None),
    ]


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("l.csv", "audio,text\na.wav,x\nb.wav,y\n", r"l\.csv, line 3, names 'b\.wav', which is no file in"),
        ("l.jsonl", '{"audio": "a.wav"}\n{"audio": "no.wav"}', r"l\.jsonl, line 2, names 'no\.wav'"),
        ("l.csv", "audio\n" + "a" * 5000 + ".wav", "line 2, names 'aaaa"),
        ("l.csv", "audio\n.\n", r"line 2, names '\.'"),
        ("l.csv", "sound,text\na.wav,x\n", r"l\.csv, line 1, has no column audio \(it has 'sound', 'text'\): the col"),
        ("l.csv", "text\nx\n", r"line 1, has no column audio \(it has 'text'\)"),
        ("l.csv", "audio,text\n,x\n", "line 2: no audio: each line needs audio"),
        ("l.csv", "file,path\na.wav,a.wav\n", "line 1: columns 'file' and 'path' are both audio: remove one"),
        ("l.csv", "b.wav,x\n", r"line 1, has no column audio \(it has 'b\.wav', 'x'\)"),
        ("l.csv", "a.wav,x,7\n", "line 1, has no column audio"),
        ("l.jsonl", '{"audio": "a.wav", "txt": "x"}', "line 1: unknown column 'txt': the columns are"),
        ("l.jsonl", '{"audio": "a.wav", "text": "a\\u0000b"}', "line 1, holds NUL"),
        ("l.jsonl", '{"audio": NaN}', "line 1: no audio"),
        ("l.csv", "audio,txt\na.wav,x\n", "line 1: unknown column 'txt': the columns are audio, text, id and speaker"),
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


def opened(path: Path) -> tuple[list[Clip], str]:
    """The clips at `path`, and the line that says what else there was."""
    tally = Tally()
    clips = open_folder(Folder(source="folder", path=str(path)), tally)
    return clips, tally.line(clips, 0, 0)


@pytest.mark.parametrize(
    ("audio", "text"),
    [("CLIP.MP3", "CLIP.TXT"), ("CLIP.MP3", "clip.txt"), ("clip.wav", "Clip.Txt"), ("clip.wav", "clip.wav.txt"),
     (unicodedata.normalize("NFD", "café.wav"), unicodedata.normalize("NFC", "café.txt")),
     (unicodedata.normalize("NFC", "café.wav"), unicodedata.normalize("NFD", "CAFÉ.TXT"))],
)  # fmt: skip
def test_a_transcript_beside_its_recording_however_spelled(tmp_path: Path, audio: str, text: str) -> None:
    (tmp_path / audio).write_bytes(b"")
    (tmp_path / text).write_text("ten of clubs\n")
    clips, line = opened(tmp_path)
    assert [clip.reference for clip in clips] == ["ten of clubs"]
    assert line == "data: 1 recording, 0 without a transcript, 0 files passed over"


def test_a_transcript_goes_to_the_very_name_and_never_to_two(tmp_path: Path) -> None:
    put(tmp_path, clip_mp3=b"", clip_txt="mine")
    (tmp_path / "CLIP.WAV").write_bytes(b"")
    if len(list(tmp_path.iterdir())) == 2:
        pytest.skip("this file system does not tell case apart")
    assert {clip.id: clip.reference for clip in folder(tmp_path)} == {"clip": "mine", "CLIP": None}
    (tmp_path / "clip.txt").rename(tmp_path / "Clip.txt")
    with pytest.raises(UserError, match=r"Clip\.txt and .* may belong together, and so may others: rename them"):
        folder(tmp_path)


def test_linked_folders_are_followed_once(tmp_path: Path) -> None:
    put(tmp_path, all__here__a_wav=b"1", all__here__a_txt="one", elsewhere__b_wav=b"2", elsewhere__b_txt="two")
    (tmp_path / "all" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "all" / "again").symlink_to(tmp_path / "all" / "here")
    (tmp_path / "elsewhere" / "loop").symlink_to(tmp_path / "all")
    (tmp_path / "all" / "gone.wav").symlink_to(tmp_path / "nowhere")
    clips = folder(tmp_path / "all")
    assert [(clip.id, clip.reference) for clip in clips] == [("gone", None), ("here/a", "one"), ("linked/b", "two")]


def test_librispeechs_own_layout(tmp_path: Path) -> None:
    put(tmp_path, test__61__70968__b_flac=b"")
    chapter = tmp_path / "test" / "61" / "70968"
    (chapter / "b.flac").rename(chapter / "61-70968-0000.flac")
    (chapter / "61-70968-0001.flac").write_bytes(b"")
    (chapter / "61-70968.trans.txt").write_text("61-70968-0000 HE BEGAN\n61-70968-0001 A FRIEND\n61-70968-0002 GONE\n")
    (tmp_path / "SPEAKERS.TXT").write_text("61 | M\n")
    clips, line = opened(tmp_path)
    assert [(clip.id, clip.reference, clip.speaker) for clip in clips] == [
        ("test/61/70968/61-70968-0000", "HE BEGAN", "61"),
        ("test/61/70968/61-70968-0001", "A FRIEND", "61"),
    ]
    assert line == (
        "data: 2 recordings, 0 without a transcript, lines of .trans.txt without their recording: 1, "
        "1 file passed over: 1 .txt without a recording (SPEAKERS.TXT)"
    )


@pytest.mark.parametrize(
    "suffix",
    [
        "mp4",
        "3gp",
        "mpga",
        "mpeg",
        "mp2",
        "caf",
        "mka",
        "au",
        "w64",
        "sph",
        "nist",
        "rf64",
        "aiff",
        "aifc",
        "m4a",
        "webm",
        "amr",
        "wma",
        "aac",
        "opus",
        "MOV",
    ],
)
def test_every_recording_has_its_row(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"a.{suffix}").write_bytes(b"")
    assert [clip.id for clip in folder(tmp_path)] == ["a"]


def test_what_is_passed_over_is_counted_by_kind(tmp_path: Path) -> None:
    put(tmp_path, a_wav=b"", b_wav=b"", b_txt="x", notes_txt="x", x__a_json="{}", x__b_json="{}", metadata_csv="")
    (tmp_path / "README").write_text("")
    (tmp_path / ".DS_Store").write_text("")
    assert opened(tmp_path)[1] == (
        "data: 2 recordings, 1 without a transcript, 6 files passed over: "
        "1 .csv, which data.path may name (metadata.csv); 2 .json (x/a.json, x/b.json); "
        "1 .txt without a recording (notes.txt); 1 hidden (.DS_Store); 1 without a suffix (README)"
    )
    with pytest.raises(UserError, match=r"holds no audio \(WAV, FLAC, MP3 or OGG; 2 files passed over: 2 \.json"):
        folder(tmp_path / "x")


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("header", ["audio{}text", "file_name{}transcription", "Path{}Sentence", '"FILE"{}"Text"', ""])
@pytest.mark.parametrize("suffix", ["csv", "tsv"])
def test_tables_as_people_have_them(tmp_path: Path, separator: str, header: str, suffix: str) -> None:
    first = f"{header.format(separator)}\n" if header else ""
    (tmp_path / f"list.{suffix}").write_text(f'{first}a.wav{separator}"ten, of; clubs"\nb.wav{separator}\n')
    put(tmp_path, a_wav=b"", b_wav=b"")
    clips, line = opened(tmp_path / f"list.{suffix}")
    assert [(clip.id, clip.reference) for clip in clips] == [("a", "ten, of; clubs"), ("b", None)]
    assert ("lines without column names, taken as audio and text: 1" in line) == (not header)


def test_excels_first_line_and_pandas_numbers(tmp_path: Path) -> None:
    put(tmp_path, a_wav=b"", one_csv="sep=;\r\naudio;text\r\na.wav;ten\r\n", two_csv=",audio,text\n0,a.wav,ten\n")
    for name in ("one.csv", "two.csv"):
        assert [(clip.id, clip.reference) for clip in folder(tmp_path / name)] == [("a", "ten")]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be", "utf-8"])
def test_texts_in_other_encodings(tmp_path: Path, encoding: str) -> None:
    put(tmp_path, a_wav=b"", a_txt="naïve दस 十 ten\n".encode(encoding))
    put(tmp_path, list_csv="audio;text\na.wav;naïve दस 十\n".encode(encoding))
    put(tmp_path, list_jsonl='{"file_name": "a.wav", "Sentence": "दस"}\n'.encode(encoding))
    assert [clip.reference for clip in folder(tmp_path)] == ["naïve दस 十 ten"]
    assert [clip.reference for clip in folder(tmp_path / "list.csv")] == ["naïve दस 十"]
    assert [clip.reference for clip in folder(tmp_path / "list.jsonl")] == ["दस"]


@pytest.mark.parametrize("content", [b"a\0b", b"ten\0", "день\0 и".encode(), "a\0b".encode("utf-16"), b"\0\0\0\0"])
def test_text_with_nul_is_refused(tmp_path: Path, content: bytes) -> None:
    put(tmp_path, a_wav=b"", a_txt=content)
    with pytest.raises(UserError, match=r"a\.txt is not UTF-8 text: save it as UTF-8"):
        folder(tmp_path)


def test_nothing_in_a_table_is_no_transcript(tmp_path: Path) -> None:
    cells = ["NaN", "nan", "None", "null", "", "nan bread"]
    put(tmp_path, list_csv="id,audio,text\n" + "".join(f"{i},a.wav,{cell}\n" for i, cell in enumerate(cells)))
    rows = '{"audio": "a.wav", "text": NaN, "speaker": NaN}\n{"id": "b", "audio": "a.wav", "text": "null"}\n'
    put(tmp_path, a_wav=b"", list_jsonl=rows)
    clips, line = opened(tmp_path / "list.csv")
    assert [clip.reference for clip in clips] == [None] * 5 + ["nan bread"]
    assert "5 without a transcript, cells that say NaN, None or null taken as empty: 4" in line
    assert [(c.reference, c.speaker) for c in folder(tmp_path / "list.jsonl")] == [(None, None), ("null", None)]


def test_a_persons_folders_stay_out_of_ids_and_errors(tmp_path: Path) -> None:
    put(tmp_path, home__in__x__a_wav=b"", home__b_wav=b"", other__c_wav=b"")
    table = tmp_path / "home" / "in" / "list.csv"
    listed = [tmp_path / "home" / "in" / "x" / "a.wav", "../b.wav", tmp_path / "other" / "c.wav", "x/../x/a.wav"]
    table.write_text("file\n" + "".join(f"{path}\n" for path in listed[:3]))
    assert [clip.id for clip in folder(table)] == ["x/a", "b", "c"]
    assert [clip.place for clip in folder(table)] == [
        "x/a.wav (list.csv, line 2)", "b.wav (list.csv, line 3)", "c.wav (list.csv, line 4)",
    ]  # fmt: skip
    table.write_text(f"file\n{listed[0]}\n{listed[3]}\n")
    with pytest.raises(UserError, match=r"line 2\) and .*line 3\) are both called 'x/a'"):
        folder(table)
    assert [clip.place for clip in folder(tmp_path / "home")] == ["b.wav", "in/x/a.wav"]


def test_accents_in_a_table_in_the_other_spelling(tmp_path: Path) -> None:
    (tmp_path / unicodedata.normalize("NFD", "café.wav")).write_bytes(b"")
    (tmp_path / "list.csv").write_text(unicodedata.normalize("NFC", "audio\ncafé.wav\n"))
    assert [clip.id for clip in folder(tmp_path / "list.csv")] == ["café"]
