"""The exception that means "the user can mend this"."""


class UserError(Exception):
    """A mistake of the user's: its text is one sentence that names the thing and the remedy.

    The tools print it on stderr without a traceback and exit with status 2. Everything else is a
    programming error and keeps its traceback.
    """


class ToldError(UserError):
    """The same in one of several processes of a run, when another one tells the user: the tools print nothing."""
