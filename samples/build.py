"""How the recordings here were made: `python samples/build.py SOURCE`, SOURCE being pocketsphinx's test/data folder.

Every source is 16 kHz, mono, 16-bit PCM already, so each FLAC holds its samples bit for bit. Transcripts come from the
source's own files; README.md says where the others come from.
"""

import json
import re
import sys
from hashlib import sha256
from pathlib import Path

import numpy as np
import soundfile

BOOK = "sense_and_sensibility_01_austen_64kb-"
TEXTS = {  # not transcribed in the source, or (librivox-0920) with a slip of the pen there
    "goforward": "go forward ten meters",
    "something": "go somewhere and do something",
    "numbers": "thirty three four six nine two",
    "librivox-0920": "had he married a more amiable woman he might have been made still more respectable than he was",
}


def transcripts(path: Path, prefix: str) -> dict[str, str]:
    """{our id: text} from lines such as `<s> ten of clubs  </s> (001)`."""
    lines = (re.fullmatch(r"<s> (.+?) +</s> \((.+)\)", line) for line in path.read_text().splitlines())
    return {prefix + line[2].removeprefix(BOOK): line[1] for line in lines if line}


def main(source: Path, target: Path) -> None:
    texts = transcripts(source / "librivox/transcription", "librivox-")
    texts |= transcripts(source / "cards/cards.transcription", "cards-")
    texts |= TEXTS
    rows = []
    for name in sorted(texts):
        group, _, number = name.partition("-")
        if group == "librivox":
            audio, rate = soundfile.read(source / group / f"{BOOK}{number}.wav", dtype="int16")
        elif group == "cards":
            audio, rate = soundfile.read(source / group / f"{number}.wav", dtype="int16")
        else:
            audio, rate = np.fromfile(source / f"{name}.raw", dtype="<i2"), 16000
        assert rate == 16000, f"{name} is not 16 kHz"
        assert audio.ndim == 1, f"{name} is not mono"
        file = target / f"{name}.flac"
        soundfile.write(file, audio, rate, format="FLAC", subtype="PCM_16")
        speaker = group if number else None
        digest = sha256(file.read_bytes()).hexdigest()
        rows.append({"id": name, "text": texts[name], "speaker": speaker, "sha256": digest})
    (target / "transcripts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(__file__).parent)
