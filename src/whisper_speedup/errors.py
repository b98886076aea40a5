"""The exceptions for what a user can mend: the command line prints each as a sentence and exits with code 2."""

import reprlib
import sys


class UserError(Exception):
    """What is wrong, where, and what to do, in one sentence on one line. Never a traceback."""

    def __init__(self, sentence: str) -> None:
        super().__init__(readable(sentence))


class LeftOutError(UserError):
    """This machine cannot run an engine that a profile names for others: the run goes on without it and says so."""


class EngineLost(UserError):
    """The engine itself is gone: no utterance after this one can be decoded, so the run ends here."""


class NoRoomError(UserError):
    """The GPU's memory does not hold what was asked for."""


class ClipError(UserError):
    """One clip's own fault: its row carries the sentence, and the other clips go on."""


class NotANumberError(ClipError):
    """NaN in the model's output for one clip.

    `setting`: the profile's key for the engine's precision. `half`: whether it computes in half precision, where large
    activations overflow; in fp32 that takes damaged weights.
    """

    def __init__(self, setting: str, half: bool) -> None:
        self.setting, self.half = setting, half
        why = "the encoder or decoder overflowed in half precision" if half else "in fp32"
        what = f", or decode in fp32 ({setting}: float32)" if half else " and the weights"
        super().__init__(f"the model's output is not a number for this clip ({why}): check the clip{what}.")

    def __reduce__(self) -> tuple[type, tuple[str, bool]]:
        return type(self), (self.setting, self.half)  # from a worker to its driver

    def for_all(self, count: int) -> str:
        """The sentence for a run in which not one of the first `count` clips gave numbers."""
        what = (
            f"the weights overflow in half precision, so decode in fp32 ({self.setting}: float32)."
            if self.half
            else "the weights are damaged, so restore them (a pipeline's own: delete build/models and run dvc repro)."
        )
        clips = "the first clip" if count == 1 else f"any of the first {count} clips"
        return f"the model's output is not a number for {clips}: {what}"


# A YAML file of a kilobyte can hold a value of 2**100 characters (an alias in an alias ...), a CSV a name of a million.
class _Short(reprlib.Repr):
    def repr_int(self, value: int, level: int) -> str:
        try:
            return super().repr_int(value, level)
        except ValueError:  # Python does not write more than 4300 digits
            return f"an integer of {value.bit_length()} bits"


_SHORT = _Short()
_SHORT.maxlevel, _SHORT.maxlist, _SHORT.maxdict, _SHORT.maxstring, _SHORT.maxother = 2, 3, 3, 200, 200


def shown(value: object) -> str:
    """A wrong value as a sentence quotes it: its repr, the middle left out where that is long."""
    return _SHORT.repr(value)


def plain(text: str) -> str:
    """A name as it is, where it is short and printable; else as `shown` quotes it."""
    return text if text.isprintable() and len(text) <= 200 else shown(text)


def readable(text: str) -> str:
    """`text` on one line that shows what it holds, as far as Python calls its characters printable.

    Spaces of all kinds and line ends become a space; what nobody sees, or what turns the text around it (controls,
    directions, zero width, halves of a surrogate), is escaped. Of a text of more than MOST characters the middle goes.
    """
    if len(text) > MOST:
        text = f"{text[: MOST // 2]} ... {text[-MOST // 2 :]}"
    return text if text.isprintable() else "".join(map(_character, text))


MOST = 4000


def _character(one: str) -> str:
    if one.isprintable():
        return one
    return " " if one.isspace() else one.encode("unicode_escape").decode()


def say(line: object) -> None:
    """Print one line for the person at the screen, on standard error, readable as the errors are."""
    print(readable(str(line)), file=sys.stderr, flush=True)


def detail(error: BaseException) -> str:
    """A library's own words for what is wrong with a file, on one line."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return readable(" ".join(str(error).split()))
