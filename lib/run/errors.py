"""The one exception that stands for a mistake of the user's: shown as one line, no traceback."""


class UserError(Exception):
    """What is wrong, where (file and line, or key), and what to do, in one line.

    Anything else that escapes a stage is a defect of ours and keeps its traceback.
    """
