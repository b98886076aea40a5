"""The one exception for a user's mistake: the command line prints it as a sentence and exits with code 2."""


class UserError(Exception):
    """What is wrong, where, and what to do, in one sentence. Never a traceback."""
