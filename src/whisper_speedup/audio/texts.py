"""A person's text file, whatever wrote it: UTF-8, UTF-16 or UTF-32, with a byte-order mark or without."""

import codecs
from pathlib import Path

from whisper_speedup.errors import UserError

MAX_TEXT_BYTES = 64 * 2**20
_MARKS = (  # UTF-32's begins as UTF-16's does
    (codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF32_LE, "utf-32-le"), (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"),
)  # fmt: skip


def read_text(path: Path) -> str:
    """The file's text, without its mark and never with NUL. Raises UserError."""
    try:
        if path.stat().st_size > MAX_TEXT_BYTES:
            raise UserError(f"{path} is larger than {MAX_TEXT_BYTES // 2**20} MiB, which is no transcript: correct it.")
        text = _decoded(path.read_bytes())
    except UnicodeDecodeError:
        text = None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): correct its permissions.") from None
    if text is None or "\0" in text:
        raise UserError(f"{path} is not UTF-8 text: save it as UTF-8.")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _decoded(content: bytes) -> str:
    for mark, encoding in _MARKS:
        if content.startswith(mark) and (content != mark or encoding == "utf-8"):
            return content[len(mark) :].decode(encoding)
    if b"\0" not in content:
        return content.decode("utf-8")
    for encoding in ("utf-32-le", "utf-32-be"):  # UTF-16 is no UTF-32: its numbers would be too high
        try:
            return content.decode(encoding)
        except UnicodeDecodeError:
            pass
    if 3 * content.count(0) < len(content) and _utf8_with_nul(content):
        raise UnicodeDecodeError("utf-8", content, 0, 1, "NUL")
    # The high bytes of Latin letters, digits, spaces and line ends are 0, in any language's text.
    return content.decode("utf-16-be" if content[::2].count(0) > content[1::2].count(0) else "utf-16-le")


def _utf8_with_nul(content: bytes) -> bool:
    """Whether it is readable but for its NULs; UTF-16 with so few of them is not, by its high bytes."""
    try:
        rest = content.replace(b"\0", b"").decode("utf-8")
    except UnicodeDecodeError:
        return False
    return all(line.isprintable() for line in rest.splitlines())
