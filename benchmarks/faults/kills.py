"""Kill l2reg at random moments, start it again, and compare with a run that nobody killed.

    python -m benchmarks.faults.kills --count 200 --out OUT

Each case is one job in a folder of its own, in a process forked from one that has imported
everything. It is killed (SIGKILL) one to three times in a row, half of the times while it writes a
file, and then runs to its end. After every kill no file with a final name may be cut; at the end
all files must hold what those of an uninterrupted run hold, bit for bit, and no temporary file may
be left.
"""

import argparse
import json
import os
import random
import shutil
import signal
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import PIL.Image
import torch
import torch._dynamo

import l2reg.inference.predict_split
import l2reg.registration.register
import l2reg.reporting.evaluate_submissions
import l2reg.training.setup  # noqa: F401  (imported before the fork)
from benchmarks.faults.kill_jobs import OUT, Job, contents, jobs, prepare

LOG = "log.txt"


def start(function: Callable[[], None], folder: Path) -> int:
    """Start a function in a forked child that works in ``folder``, and return its process id."""
    folder.mkdir(parents=True, exist_ok=True)
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        os.chdir(folder)
        log = os.open(LOG, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        function()
        status = 0
    except SystemExit as stop:
        status = 0 if stop.code in (None, 0, 3) else 1
        os.write(2, f"{stop.code}\n".encode())
    except BaseException:
        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(status)


def finish(function: Callable[[], None], folder: Path) -> str:
    """Run a function to its end in a child; return what it printed if it failed, else nothing."""
    _, status = os.waitpid(start(function, folder), 0)
    return (folder / LOG).read_text(encoding="utf-8", errors="replace") if status else ""


def kill(function: Callable[[], None], folder: Path, after_s: float, *, writing: bool) -> bool:
    """Start a function, and kill it after some seconds; return whether it still ran.

    Args:
        function: Function to start.
        folder: Folder that it works in.
        after_s: Seconds until it is killed.
        writing: Whether it is killed at the next moment when it writes a file, within 2 s.
    """
    left = set(folder.glob("**/.part_*"))
    child = start(function, folder)
    time.sleep(after_s)
    patience = time.monotonic() + 2 * writing
    while time.monotonic() < patience and set(folder.glob("**/.part_*")) <= left:
        time.sleep(0.0005)
    ended, _ = os.waitpid(child, os.WNOHANG)
    if ended:
        return False
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return True


def case(
    job: Job, reference: Mapping[str, str], seconds: float, folder: Path, rng: random.Random
) -> tuple[int, list[str]]:
    """Kill a job one to three times, and let it end.

    Args:
        job: The job.
        reference: Content of the files of an uninterrupted run.
        seconds: Runtime of that run.
        folder: Folder of the case.
        rng: Source of the moments.

    Returns:
        The number of kills, and the faults.
    """
    n_kills, faults = 0, []
    for _ in range(rng.randint(1, 3)):
        after_s, writing = rng.uniform(0.02, 1) * seconds, rng.random() < 0.5
        if not kill(job.start, folder, after_s, writing=writing):
            break
        n_kills += 1
        try:
            left = contents(folder / OUT)
        except Exception as error:
            faults.append(f"a cut file: {error}")
            continue
        if job.is_fixed:
            faults += [f"{name} is cut" for name, value in left.items()
                       if reference.get(name) != value]  # fmt: skip
    if failure := finish(job.start, folder):
        return n_kills, [*faults, f"the restart failed: {failure[-1500:]}"]
    now = contents(folder / OUT)
    if now != reference:
        names = [n for n in {*now, *reference} if now.get(n) != reference.get(n)]
        faults.append(f"other content: {sorted(names)}")
    leftovers = [str(path) for path in folder.rglob(".part_*")]
    return n_kills, [*faults, *(f"left {path}" for path in leftovers)]


def main() -> None:
    """Run cases until there were enough kills, and print and write a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=200, help="number of kills")
    parser.add_argument("--jobs", nargs="+", help="all by default")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    out = options.out.resolve()
    torch.set_num_threads(1)
    PIL.Image.init()
    rng = random.Random(options.seed)
    begin, number, kills, faulty = time.monotonic(), 0, Counter[str](), Counter[str]()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if failure := finish(lambda: prepare(folder / "inputs"), folder / "inputs"):
            raise SystemExit(failure)
        chosen = [j for j in jobs(folder / "inputs") if not options.jobs or j.name in options.jobs]
        references = {job.name: _reference(job, folder) for job in chosen}
        while kills.total() < options.count:
            job = chosen[number % len(chosen)]
            place = folder / "case"
            n_kills, faults = case(job, *references[job.name], place, rng)
            kills[job.name] += n_kills
            faulty[job.name] += bool(faults)
            if faults:
                print(f"case {number} | {job.name} | {'; '.join(faults)}", flush=True)
                shutil.copytree(place, out / f"{number}_{job.name}", dirs_exist_ok=True)
            shutil.rmtree(place)
            number += 1
    print("| job | kills | faulty cases |\n|---|---|---|")
    for name in (*references, "all"):
        n_kills, n_faulty = (c.total() if name == "all" else c[name] for c in (kills, faulty))
        print(f"| {name} | {n_kills} | {n_faulty} |")
    print(f"{number} cases, {time.monotonic() - begin:.0f} s")
    (out / "kills.json").write_text(json.dumps({"kills": kills, "faulty": faulty}, indent=1))


def _reference(job: Job, folder: Path) -> tuple[dict[str, str], float]:
    """Return what a job writes and its runtime in seconds; two runs have to agree."""
    found = []
    for name in ("first", "second"):
        begin = time.monotonic()
        place = folder / f"{job.name}_{name}"
        if failure := finish(job.start, place):
            raise SystemExit(f"{job.name}: {failure}")
        seconds = time.monotonic() - begin
        found.append(contents(place / OUT))
    if found[0] != found[1]:
        names = [n for n in found[0] if found[0][n] != found[1].get(n)]
        raise SystemExit(f"{job.name}: two runs differ in {names}")
    print(f"{job.name}: {len(found[0])} files in {seconds:.1f} s", flush=True)
    return found[0], seconds


if __name__ == "__main__":
    main()
