"""Registration of many pairs of scans, one after the other, with one table of results."""

import csv
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from l2reg.io.files import atomic_write, load_json
from l2reg.problems import InputError
from l2reg.registration.input_checks import check_outputs
from l2reg.registration.options import RegisterOptions
from l2reg.registration.pair_table import PairRow
from l2reg.registration.register import register_with
from l2reg.registration.result import output_files
from l2reg.registration.result_page import write_result_page
from l2reg.registration.scan_files import ScanFiles
from l2reg.registration.table_page import PAGE, write_table_page
from l2reg.reporting.page import provenance
from l2reg.runtime import select_device

RESULTS = "results.csv"
_VERDICT = (
    *("overlap", "similarity_before", "similarity_after", "mean_displacement_mm"),
    *("max_displacement_mm", "at_limit", "folds"),
)
_SCORES = ("dice_before", "dice_after", "tre_mm_before", "tre_mm_after")
_COLUMNS = ("name", "fixed", "moving", "status", *_VERDICT, *_SCORES, "seconds", "flags", "error")


@dataclass(frozen=True)
class TableSummary:
    """Numbers of pairs by their outcome.

    Attributes:
        registered: Pairs with a result, the flagged ones among them.
        flagged: Pairs whose result may be wrong.
        failed: Pairs without a result.
    """

    registered: int
    flagged: int
    failed: int

    def __str__(self) -> str:
        return f"{self.registered} registered, {self.flagged} of them flagged, {self.failed} failed"


def register_table(
    rows: Sequence[PairRow],
    table: Path,
    out: Path,
    options: RegisterOptions,
    *,
    resume: bool,
    details: Mapping[str, str] | None = None,
) -> TableSummary:
    """Register the pairs of a table, each into a folder of its name, and write ``results.csv``.

    A pair that fails costs no other one: the table of results, which is written anew after each
    pair, says why it failed.

    Args:
        rows: The pairs.
        table: The table that they were read from.
        out: Folder of the results.
        options: What all pairs share.
        resume: Whether to leave out the pairs whose folder is complete: it has all files, of the
            same inputs, byte for byte, and options.
        details: How the results are made, see ``provenance``, for a page on each pair and one on
            all; no pages without.

    Raises:
        InputError: If the results would replace the table, or cannot be written, or there is no
            such device.
    """
    check_outputs([table], [out / RESULTS, out / PAGE])
    options = replace(options, device=str(select_device(options.device)))  # which is said once
    results: list[dict[str, Any]] = []
    for number, row in enumerate(rows, start=1):
        pages = details is not None
        report = _complete_report(row, out / row.name, options, pages=pages) if resume else None
        told = "already there" if report else ""
        if report is None:
            begin = time.perf_counter()
            report = _register(row, out / row.name, options, details)
            told = f"{time.perf_counter() - begin:.1f} s"
        results.append(result_row(row.name, row.fixed, row.moving, report))
        write_results(out / RESULTS, results)
        tqdm.write(f"[{number}/{len(rows)}] {row.name}: {result_line(results[-1], told)}")
    if details is not None:
        write_table_page(out / PAGE, f"Pairs of {table.name}", results, provenance(**details))
    return summarise(results)


def summarise(results: Sequence[Mapping[str, Any]]) -> TableSummary:
    """Return the numbers of pairs of a table of results."""
    statuses = [result["status"] for result in results]
    n_failed = statuses.count("failed")
    return TableSummary(len(results) - n_failed, statuses.count("flagged"), n_failed)


def _register(
    row: PairRow, folder: Path, options: RegisterOptions, details: Mapping[str, str] | None
) -> Mapping[str, Any]:
    """Return the report of a registration, or the error that prevented it."""
    fixed, moving = row.fixed, row.moving
    try:
        (folder / PAGE).unlink(missing_ok=True)
        result = register_with(fixed, moving, folder, replace(options, initial=row.initial))
        if details is not None:
            heading = f"Pair {row.name}"
            write_result_page(folder / PAGE, result, fixed, moving, heading=heading, **details)
        report: Mapping[str, Any] = load_json(output_files(folder, ()).report)
    except Exception as error:  # of any kind: the other pairs must still be registered
        return {"error": error_text(error)}
    return report


def error_text(error: Exception) -> str:
    """Return what a failed pair says in the table of results; it may have several lines."""
    return str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"


def _complete_report(
    row: PairRow, folder: Path, options: RegisterOptions, *, pages: bool
) -> Mapping[str, Any] | None:
    """Return the report of a pair that was registered with the same inputs, if it is whole."""
    files = output_files(folder, options.save)
    if not all(path.is_file() for path in [*files.paths, *([folder / PAGE] if pages else [])]):
        return None
    inputs = replace(options, initial=row.initial).describe((row.fixed, row.moving))
    try:
        report = load_json(files.report)
        result_row(row.name, row.fixed, row.moving, report)
        return report if report["inputs"] == inputs else None
    except (ValueError, KeyError, TypeError, OSError):  # damaged, or of another version
        return None


def result_row(
    name: str, fixed: ScanFiles, moving: ScanFiles, report: Mapping[str, Any]
) -> dict[str, Any]:
    """Return a row of the table of results.

    Args:
        name: Name of the pair.
        fixed: Its fixed scan.
        moving: Its moving scan.
        report: Its report, or its ``error``.
    """
    result: dict[str, Any] = {"name": name, "fixed": fixed.image, "moving": moving.image}
    if "error" in report:
        return result | {"status": "failed", "error": report["error"]}
    verdict = report["verdict"]
    result |= {name: f"{verdict[name]:.4f}" for name in _VERDICT}
    for when, scores in report["scores"].items():
        means = {"dice": list(scores["dice"].values()), "tre_mm": scores["tre_mm"]}
        result |= {f"{kind}_{when}": f"{np.mean(v):.4f}" for kind, v in means.items() if v}
    return result | {
        "status": "flagged" if verdict["flags"] else "ok",
        "seconds": f"{report['seconds']:.1f}",
        "flags": "; ".join(verdict["flags"]),
    }


def result_line(result: Mapping[str, Any], told: str = "") -> str:
    """Return a row of the table of results in words; an error follows in lines of its own.

    Args:
        result: The row.
        told: What else is said of it, in brackets.
    """
    added = f" ({told})" if told else ""
    if result["status"] == "failed":
        return f"failed{added}\n{result['error']}"
    change = f"similarity {result['similarity_before']} -> {result['similarity_after']}"
    return " !!! ".join([change, *filter(None, [result["flags"]])]) + added


def write_results(path: Path, results: Sequence[dict[str, Any]]) -> None:
    """Write the table of results, in which an error is one line."""
    with (
        atomic_write(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.DictWriter(file, _COLUMNS, restval="")
        writer.writeheader()
        writer.writerows(
            result | {"error": _one_line(result.get("error", ""))} for result in results
        )


def _one_line(text: str) -> str:
    return "; ".join(" ".join(line.split()) for line in text.splitlines())
