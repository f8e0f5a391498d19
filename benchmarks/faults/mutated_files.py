"""Mutate a file of every kind that l2reg reads, and say how reading it ends.

    python -m benchmarks.faults.mutated_files --count 10000 --out OUT

Each file is read in a child process with 2 GB of memory beyond the start and 10 s. It must be right
work, or an error that names the file. Case N is that of seed N, whatever the number of cases:
``--cases N ...`` repeats some. With ``--kinds`` only the kinds that it names are drawn, and
the numbers are others. Every fault is kept below ``OUT``.
"""

import argparse
import json
import os
import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.faults.file_kinds import tables, volumes
from benchmarks.faults.guard import CLEAR, FAULTS, RIGHT, Outcome, guarded
from benchmarks.faults.kinds import Kind, tiny_config, write_tiny_data
from benchmarks.faults.mutations import BYTES
from benchmarks.faults.run_kinds import option_kinds, run_kinds
from benchmarks.faults.submission_kinds import submissions
from l2reg.config.build import build
from l2reg.data.dataset import Dataset


def all_kinds(folder: Path) -> list[Kind]:
    """Write tiny data and a run below ``folder``, and return all kinds of files."""
    data = write_tiny_data(folder / "root")
    config = tiny_config(f"data.root={folder / 'root'}")
    dataset: Dataset = build(config["data"], task=build(config["task"]))
    (pair,) = dataset.split_pairs("val")
    kinds = [*volumes(dataset, pair), *tables(data, dataset), *submissions(pair, dataset)]
    return [*kinds, *run_kinds(folder), *option_kinds(folder)]


def mutate(kind: Kind, seed: int) -> tuple[bytes, bool]:
    """Return the content of a kind with one mutation, or two in a quarter of the cases.

    Returns:
        The content, and whether the mutations knew nothing of the format, so that checksums are as
        they were.
    """
    rng = random.Random(seed)
    content, is_blind = kind.content, True
    for _ in range(rng.choice((1, 1, 1, 2))):
        mutation = rng.choice(kind.mutations)
        try:
            content = mutation(content, rng)
            is_blind = is_blind and mutation in BYTES
        except Exception:  # what is no longer of the format
            content = rng.choice(BYTES)(content, rng)
    return content, is_blind


def outcome_of(kind: Kind, content: bytes, folder: Path) -> Outcome:
    """Read a content in a child process.

    Args:
        kind: Kind of the file.
        content: Its bytes.
        folder: Folder of the file and of all that is written; it is emptied first.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    path = folder / (kind.file or "options.txt")
    path.write_bytes(content)

    def read() -> str:
        os.chdir(folder)
        return kind.read(path)

    outcome = guarded(read, kind.name_in_errors)
    if (folder / "owned").exists():
        return Outcome("crash", "code of the file was run")
    return outcome


def run_case(kind: Kind, seed: int, sound: Outcome, folder: Path) -> tuple[Outcome, bytes]:
    """Return how reading a mutated file ends, and the file.

    Args:
        kind: Kind of the file.
        seed: Seed of the mutation.
        sound: Outcome of the sound file: other content in spite of a checksum is a fault.
        folder: See ``outcome_of``.
    """
    content, is_blind = mutate(kind, seed)
    outcome = outcome_of(kind, content, folder)
    if outcome.kind == RIGHT and kind.is_checked and is_blind and outcome.text != sound.text:
        outcome = replace(outcome, kind="other content")
    return outcome, content


def main() -> None:
    """Run the cases, and print and write a table of their outcomes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=10000)
    parser.add_argument("--cases", type=int, nargs="+", help="numbers of single cases")
    parser.add_argument("--kinds", nargs="+", help="names of the kinds; all by default")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    out = options.out.resolve()
    begin = time.monotonic()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        kinds = [k for k in all_kinds(folder) if not options.kinds or k.name in options.kinds]
        sound = [outcome_of(kind, kind.content, folder / "case") for kind in kinds]
        for kind, outcome in zip(kinds, sound, strict=True):
            print(f"sound {kind.name}: {outcome.kind} {outcome.text[:90]!r}", flush=True)
        counts: dict[str, Counter[str]] = {kind.name: Counter() for kind in kinds}
        slots = [number for number, kind in enumerate(kinds) for _ in range(kind.share)]
        for seed in options.cases or range(options.count):
            number = slots[seed % len(slots)]
            kind = kinds[number]
            outcome, content = run_case(kind, seed, sound[number], folder / "case")
            counts[kind.name][outcome.kind] += 1
            if outcome.kind in FAULTS:
                print(f"{seed} | {kind.name} | {outcome.kind} | {outcome.text}", flush=True)
                (out / f"{seed}_{kind.file or 'options.txt'}").write_bytes(content)
    (out / "mutated_files.json").write_text(json.dumps(counts, indent=1), encoding="utf-8")
    print(table(counts))
    print(f"{time.monotonic() - begin:.0f} s")


def table(counts: Mapping[str, Counter[str]]) -> str:
    """Return a table of the outcomes of each kind."""
    columns = [RIGHT, CLEAR, *FAULTS]
    lines = [f"| kind | {' | '.join(columns)} |", "|---" * (1 + len(columns)) + "|"]
    rows = {**counts, "all": sum(counts.values(), Counter())}
    for name, row in rows.items():
        lines.append(f"| {name} | {' | '.join(str(row[column]) for column in columns)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
