"""The one exception that a user is meant to read."""


class ReliabitError(Exception):
    """Something the user can put right; the message is one sentence that says what, where and how.

    The entry points print it as a single line and exit with a non-zero status. Every other exception is a
    defect of Reliabit and keeps its traceback.
    """
