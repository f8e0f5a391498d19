"""Records beside the fields of a submission: runtimes and notes on the scores."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from l2reg.io.files import atomic_write
from l2reg.problems import InputError, Problem

TIMINGS = "timings.csv"
NOTES = "score_notes.txt"


def write_timings(folder: Path, seconds: Mapping[str, float]) -> None:
    """Write the runtime of each pair to ``timings.csv``, which ``read_timings`` reads.

    Args:
        folder: Folder of the submission, or the folder above it.
        seconds: Runtime of each pair, in seconds.
    """
    path = folder / TIMINGS
    with (
        atomic_write(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(["pair", "seconds"])
        writer.writerows((pair, f"{value:.4f}") for pair, value in seconds.items())


def read_timings(path: Path) -> dict[str, float]:
    """Return the runtimes in seconds by pair.

    Raises:
        InputError: If the file is not a table with the columns ``pair`` and ``seconds``.
    """
    try:
        rows = csv.DictReader(path.read_text(encoding="utf-8-sig").splitlines())
        return {row["pair"]: float(row["seconds"]) for row in rows}
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise InputError(
            Problem(
                where=str(path),
                what="is not a table of runtimes",
                expected="a header line 'pair,seconds', and the name and the runtime of one pair a "
                "line",
                found=f"{type(error).__name__}: {error}",
                remedy="remove the file to score without runtimes, or predict again",
            )
        ) from error


def write_notes(folder: Path, lines: Sequence[str]) -> None:
    """Write notes on the scores to ``score_notes.txt``, which ``read_notes`` reads.

    Args:
        folder: Folder of the submission, or the folder above it.
        lines: Notes of one line each; without any no file is written.
    """
    if lines:
        with atomic_write(folder / NOTES) as temporary:
            temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def read_notes(path: Path) -> list[str]:
    """Return the notes on the scores; bytes that are no UTF-8 are replaced."""
    return path.read_text(encoding="utf-8", errors="replace").splitlines()
