"""For a user's mistake: the command line prints it as a sentence and exits with code 2."""


class UserError(Exception):
    """What is wrong, where, and what to do, in one sentence. Never a traceback."""


class EngineLost(UserError):
    """The engine itself is gone: no utterance after this one can be decoded, so the run ends here."""
