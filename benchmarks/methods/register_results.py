"""The runs of ``bench_register.py``: their table, and their form on disk."""

import csv
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from l2reg.io.files import atomic_write, strict_json

HEADINGS = {
    "tre_mm": "TRE mm",
    "tre30_before": "30% worst before",
    "tre30_after": "30% worst after",
    "dice": "Dice",
    "dice30": "lowest 30%",
    "hd95_voxels": "HD95 vox",
    "sdlogj": "SDlogJ",
    "folds_percent": "folds %",
    "seconds": "s",
    "memory_gb": "GB",
}
DIGITS = {"dice": 4, "dice30": 4, "sdlogj": 4, "folds_percent": 4, "seconds": 1, "memory_gb": 2}


@dataclass(frozen=True)
class Run:
    """One command and what came of it; ``scores`` is empty if it failed."""

    case: str
    pair: str
    method: str
    turn: int
    seconds: float
    memory_gb: float
    scores: Mapping[str, float]

    def values(self) -> dict[str, float]:
        """Return all numbers by the names of ``HEADINGS``."""
        return {**self.scores, "seconds": self.seconds, "memory_gb": self.memory_gb}


def table(runs: Sequence[Run], methods: Sequence[str]) -> str:
    """Return the table of one case, a row for each of ``methods``."""
    known = {name for run in runs for name in run.scores} | {"seconds", "memory_gb"}
    names = [name for name in HEADINGS if name in known]
    rows = [["", *(HEADINGS[name] for name in names)]]
    for method in methods:
        mine = [run for run in runs if run.method == method and run.scores]
        failed = any(run.method == method and not run.scores for run in runs)
        rows.append(
            [method + " (failed in part)" * failed, *(summed_up(mine, name) for name in names)]
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows
    )


def summed_up(runs: Sequence[Run], name: str) -> str:
    """Return the mean over the pairs of the median over the turns.

    The seconds are followed by half of what lies between the fastest and the slowest turn.
    """
    pairs = dict.fromkeys(run.pair for run in runs)
    if not pairs:
        return "-"
    turns = [[run.values()[name] for run in runs if run.pair == pair] for pair in pairs]
    cell = f"{statistics.fmean(map(statistics.median, turns)):.{DIGITS.get(name, 3)}f}"
    if name == "seconds" and max(map(len, turns)) > 1:
        cell += f" +-{statistics.fmean(max(t) - min(t) for t in turns) / 2:.1f}"
    return cell


def save(runs: Sequence[Run], header: Mapping[str, Any], out: Path) -> None:
    """Write what is known so far as ``runs.json`` and ``runs.csv``."""
    content = {**header, "runs": [asdict(run) for run in runs]}
    with atomic_write(out / "runs.json") as draft:
        draft.write_text(strict_json(content, indent=1), encoding="utf-8")
    with atomic_write(out / "runs.csv") as draft, draft.open("w", newline="") as file:
        rows = csv.DictWriter(file, ["case", "pair", "method", "turn", *HEADINGS])
        rows.writeheader()
        for run in runs:
            ids = {"case": run.case, "pair": run.pair, "method": run.method, "turn": run.turn}
            rows.writerow(ids | run.values())
