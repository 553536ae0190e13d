"""The exceptions that a user is meant to read."""


class ReliabitError(Exception):
    """Something the user can put right; the message is one sentence that says what, where and how.

    The entry points print it as a single line and exit with a non-zero status. Every other exception is a
    defect of Reliabit and keeps its traceback.
    """


class DamagedError(ReliabitError):
    """What is read is not what was written.

    Attributes:
        what: The file and what is wrong with it, for whoever makes it anew instead.
    """

    def __init__(self, what: str, *, remedy: str) -> None:
        super().__init__(f"{what}; {remedy}")
        self.what = what


class NotFiniteError(ReliabitError):
    """A number that an answer is made of is NaN or infinite."""


class KilledError(ReliabitError):
    """The process of a sweep's cell was killed; going on with the sweep repeats the cell."""
