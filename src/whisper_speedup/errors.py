"""The exceptions for what a user can mend: the command line prints each as a sentence and exits with code 2."""


class UserError(Exception):
    """What is wrong, where, and what to do, in one sentence. Never a traceback."""


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

    def for_all(self, count: int) -> str:
        """The sentence for a run in which not one of the first `count` clips gave numbers."""
        what = (
            f"the weights overflow in half precision, so decode in fp32 ({self.setting}: float32)."
            if self.half
            else "the weights are damaged, so restore them (a pipeline's own: delete build/models and run dvc repro)."
        )
        clips = "the first clip" if count == 1 else f"any of the first {count} clips"
        return f"the model's output is not a number for {clips}: {what}"
