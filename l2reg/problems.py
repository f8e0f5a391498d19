"""Input errors: faults of files, options and data sets, each with a remedy for the user."""

import difflib
import errno
import io
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

INTERRUPTED = 130  # exit code of a program that Ctrl-C ended

_N_NAMED = 5  # files that a message about many names
_FULL = "the disk is full", "free some space and continue"
_PROTECTED = "permission denied", "choose another file or folder, or change its permissions"
_TOO_MANY_OPEN = (
    "too many files are open",
    "raise the limit (ulimit -n 4096), or run fewer programs",
)
_OF_FILES = {  # reason and remedy of errors that any file operation may meet
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EFBIG: (
        "is larger than allowed",
        "choose another disk, or see ulimit -f",
    ),
    errno.EMFILE: _TOO_MANY_OPEN,
    errno.ENFILE: _TOO_MANY_OPEN,
    errno.EACCES: _PROTECTED,
    errno.EPERM: _PROTECTED,
    errno.EROFS: ("the disk is read-only", "choose another folder"),
    errno.ENOENT: ("no such file or folder", "check the path"),
    errno.EISDIR: ("is a folder", "name a file"),
    errno.ENOTDIR: ("is not a folder", "name a folder"),
    errno.ENAMETOOLONG: ("has too long a name", "choose a shorter one"),
    errno.ELOOP: ("is a link to itself", "name the file itself"),
}


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One fault of a file, an option or a data set.

    Attributes:
        where: File, option or pair at fault.
        what: Description of the fault, as the end of a sentence that starts with ``where``.
        expected: Valid value or content.
        found: Actual value or content.
        remedy: Action that corrects the fault.
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
    """Error in the user's files or options, not in this program.

    The entry points print its message without a traceback and exit with code 1
    (``exit_on_input_error``).

    Args:
        problems: One fault, or all faults of the input.
    """

    def __init__(self, problems: Problem | Iterable[Problem]) -> None:
        self.problems = (problems,) if isinstance(problems, Problem) else tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))

    def __reduce__(self) -> tuple[type["InputError"], tuple[tuple[Problem, ...]]]:
        """Keep the problems when the error is pickled, as between processes."""
        return InputError, (self.problems,)


def group_by_kind(problems: Iterable[Problem]) -> list[Problem]:
    """Return one problem for all of the same kind: number, first names, an example."""
    kinds: dict[str, list[Problem]] = {}
    for problem in problems:
        kinds.setdefault(problem.what, []).append(problem)
    return [_join(alike) for alike in kinds.values()]


def _join(problems: list[Problem]) -> Problem:
    first, n = problems[0], len(problems)
    if n == 1:
        return first
    names = ", ".join(problem.where for problem in problems[:_N_NAMED])
    more = f" and {n - _N_NAMED} more" if n > _N_NAMED else ""
    return replace(
        first,
        where=f"{n} files ({names}{more})",
        expected=f"{first.expected}, for the first",
        found=f"{first.found}, for the first",
    )


def raise_if_any(problems: Iterable[Problem]) -> None:
    """Raise one ``InputError`` that lists all ``problems``, if there are any."""
    collected = tuple(problems)
    if collected:
        raise InputError(collected)


@contextmanager
def exit_on_input_error() -> Iterator[None]:
    """Turn an ``InputError`` raised in the block into its message and exit code 1.

    No traceback is printed. Files and folders that cannot be used, such as on a full disk, end the
    program in the same way, and Ctrl-C with exit code 130. Standard output is line-buffered in the
    block, so that log files are up to date.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
    try:
        yield
    except InputError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(INTERRUPTED)
    except OSError as error:
        if error.errno not in _OF_FILES:
            raise
        reason, remedy = _OF_FILES[error.errno]
        sys.exit(f"error: {error.filename or 'a file'}: {reason}; {remedy}")


def check_seed_value(option: str, seed: object) -> None:
    """Check a random seed.

    Args:
        option: Name of the option, for the message.
        seed: Value of the option.

    Raises:
        InputError: If the seed is not an integer from 0 to 2^32 - 1.
    """
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**32:
        raise InputError(
            Problem(
                where=f"{option}={seed}",
                what="is no random seed",
                expected="an integer from 0 to 4294967295",
                found=repr(seed),
                remedy=f"{option}=0",
            )
        )


def suggest(word: str, known: Iterable[str]) -> str:
    """Return a remedy for a misspelt ``word``: the closest of ``known``, or a list of all."""
    known = list(known)
    close = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"use one of: {', '.join(known)}"
