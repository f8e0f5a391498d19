"""The whole path on data the project makes itself: ``make demo``.

Phantom lungs on disk -> train -> predict -> submission zip -> official scores -> report.
"""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml

from l2reg.config.build import build
from l2reg.data.task import Task
from l2reg.evaluation.score_submissions import ZERO_FIELD

ROOT = Path(__file__).parents[1]
OUT = Path("demo")
RUN, PREDICTION, EVALUATION = OUT / "run", OUT / "prediction", OUT / "evaluation"
SUBMISSION = PREDICTION / "task_02.zip"


def main() -> None:
    """Run the three scripts as a user would, and sum up."""
    begin = time.perf_counter()
    step("train.py", "experiment=demo", f"run_dir={RUN}", "overwrite=true")
    step("predict.py", f"ckpt={RUN}", f"out={PREDICTION}", "save=[warped]", "overwrite=true")
    step(
        "evaluate.py",
        "task=phantom",
        f"submission={{network: {SUBMISSION}}}",
        f"out={EVALUATION}",
        "report=true",
        "overwrite=true",
    )
    print(f"\n{summary(json.loads((EVALUATION / 'scores.json').read_text(encoding='utf-8')))}")
    print(f"seconds from the start: {time.perf_counter() - begin:.0f}")
    for what, path in {
        "report (open it in a browser)": EVALUATION / "report.html",
        "submission": SUBMISSION,
        "scores": EVALUATION / "scores.json",
        "network": RUN / "best.pt",
        "training curves (tensorboard --logdir)": RUN / "tensorboard",
        "warped scans": PREDICTION / "extra",
    }.items():
        print(f"  {what:40} {path}")


def step(script: str, *arguments: str) -> None:
    """Show a command and run it; stop the demo where it stops."""
    print(f"\n$ python {script} {' '.join(arguments)}", flush=True)
    done = subprocess.run([sys.executable, str(ROOT / script), *arguments], check=False)
    if done.returncode != 0:
        sys.exit(f"the demo stopped: {script} ended with exit status {done.returncode}")


def summary(scores: dict[str, Any]) -> str:
    """Return the lines that say whether it worked; the pairs were not trained on."""
    before, after = (scores["submissions"][name] for name in (ZERO_FIELD, "network"))
    task: Task = build(yaml.safe_load((RUN / "config.yaml").read_text(encoding="utf-8"))["task"])
    edge_mm = max(task.spacing_mm)
    old, new = (row["aggregates"]["tre_mm"]["mean"] for row in (before, after))
    folds = sum(row["change"]["folds"] for row in after["pairs"].values())
    return (
        f"mean landmark error of {len(after['pairs'])} pairs that were not trained on:\n"
        f"  {old:.2f} mm ({old / edge_mm:.1f} voxels) before, "
        f"{new:.2f} mm ({new / edge_mm:.1f} voxels) after: {old / new:.1f} times smaller\n"
        f"  folded voxels in the up-sampled fields: {100 * folds:.4f} %"
    )


if __name__ == "__main__":
    main()
