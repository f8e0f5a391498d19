"""What is wrong with the input, said so that its owner can mend it."""

import difflib
import errno
import io
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One fault of a file, an option or a data set.

    Attributes:
        where: The file, option or pair at fault.
        what: The fault, as the end of a sentence that starts with ``where``.
        expected: What would have been right.
        found: What is there instead.
        remedy: What to do about it.
    """

    where: str
    what: str
    expected: str
    found: str
    remedy: str

    def __str__(self) -> str:
        return (
            f"{self.where}: {self.what}\n"
            f"  expected  {self.expected}\n"
            f"  found     {self.found}\n"
            f"  remedy    {self.remedy}"
        )


class InputError(ValueError):
    """The user's files or options are at fault, not this program.

    The entry points print it without a traceback and exit with 1.
    """

    def __init__(self, problems: Problem | Iterable[Problem]) -> None:
        self.problems = (problems,) if isinstance(problems, Problem) else tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))

    def __reduce__(self) -> tuple[type["InputError"], tuple[tuple[Problem, ...]]]:
        """Keep the problems when the error travels between processes."""
        return InputError, (self.problems,)


def raise_if_any(problems: Iterable[Problem]) -> None:
    """Raise one ``InputError`` that shows all ``problems``, if there are any."""
    collected = tuple(problems)
    if collected:
        raise InputError(collected)


@contextmanager
def exit_on_input_error() -> Iterator[None]:
    """End the program with the message of an ``InputError``, without a traceback.

    So it does when a log cannot be continued because the disk is full. Lines that are printed
    inside appear at once, in a log file too.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
    try:
        yield
    except InputError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        sys.exit(f"error: {error.filename or 'a file'}: the disk is full; make room and go on")


def suggest(word: str, known: Iterable[str]) -> str:
    """Return a remedy for a misspelt ``word``."""
    known = list(known)
    close = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"use one of: {', '.join(known)}"
