import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from l2reg.checkpoints import storage
from l2reg.training.distributed import any_rank, average, gather, is_first, n_ranks, rank, share

ROOT = Path(__file__).parents[2]
TINY = ["task=phantom", "model=unet", "model.encoder=[4,6]", "model.decoder=[6]", "model.final=[4]",
        "device=cpu", "trainer.validate_every=2", "trainer.picture_every=0",
        "trainer.checkpoint_every=1", "data.augment.noise=0.01"]  # fmt: skip


def test_one_process_has_everything_and_averages_nothing() -> None:
    assert (rank(), n_ranks(), is_first()) == (0, 1, True)
    assert gather(share(["a", "b", "c"])) == ["a", "b", "c"]
    tensor = torch.tensor([1.0, 2.0])
    average([tensor])
    assert tensor.tolist() == [1, 2]
    assert any_rank(True)
    assert not any_rank(False)


@pytest.mark.parametrize("ranks", [2, 3])
@pytest.mark.parametrize("n_items", [0, 1, 2, 5, 7])
def test_items_that_ranks_share_come_back_in_their_order(
    ranks: int, n_items: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = list(range(n_items))
    module = "l2reg.training.distributed"
    monkeypatch.setattr(f"{module}.n_ranks", lambda: ranks)
    parts = []
    for number in range(ranks):
        monkeypatch.setattr(f"{module}.rank", lambda number=number: number)
        parts.append(share(items))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1

    def all_gather_object(into: list[Any], own: Any) -> None:
        assert own in parts
        into[:] = parts

    monkeypatch.setattr("torch.distributed.all_gather_object", all_gather_object)
    assert gather(parts[0]) == items


def command(n_processes: int, root: Path, run: str, *options: str) -> list[str]:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node",
                str(n_processes)] if n_processes > 1 else []  # fmt: skip
    given = [*TINY, "task.pairs=8", f"+task.root={root}", f"run_dir={run}", *options]
    return [sys.executable, *launcher, str(ROOT / "train.py"), *given]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def train(n_processes: int, *options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(n_processes, *options), check=False, capture_output=True,
                          text=True, env=environment(), timeout=500)  # fmt: skip


def metrics(run: str) -> list[dict[str, float]]:
    return [json.loads(line) for line in Path(run, "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_two_ranks_take_the_steps_of_one_process_with_twice_the_batch(tmp_path: Path) -> None:
    root = tmp_path / "phantoms"
    steps = ["trainer.max_steps=4", "task.flavour=abdomen", "loss.weights.dice=1"]
    alone = train(1, root, "alone", *steps, "trainer.batch_size=2")
    assert alone.returncode == 0, alone.stderr
    together = train(2, root, "together", *steps, "trainer.batch_size=1")
    assert together.returncode == 0, together.stderr
    assert together.stdout.count("trained 4 steps") == 1
    rows, expected = metrics("together"), metrics("alone")
    assert [row["step"] for row in rows] == [row["step"] for row in expected]
    for row, target in zip(rows, expected, strict=True):
        assert row == pytest.approx(target, rel=1e-4, abs=1e-5)
    weights, other = (storage.load(Path(run, "last.pt"))["model"] for run in ("together", "alone"))
    for name, tensor in weights.items():
        torch.testing.assert_close(tensor, other[name], rtol=0, atol=1e-5)
    assert {path.name for path in Path("together").iterdir()} == {
        path.name for path in Path("alone").iterdir()
    }


@pytest.mark.slow
def test_a_killed_rank_ends_the_job_and_any_number_of_ranks_continues_it(tmp_path: Path) -> None:
    root = tmp_path / "phantoms"
    assert train(1, root, "first", "trainer.max_steps=1").returncode == 0
    with subprocess.Popen(command(2, root, "run", "trainer.max_steps=100000"), env=environment(),
                          stderr=subprocess.PIPE, text=True) as job:  # fmt: skip
        until = time.monotonic() + 300
        while time.monotonic() < until and not Path("run/metrics.jsonl").is_file():
            time.sleep(0.2)
        children = Path(f"/proc/{job.pid}/task/{job.pid}/children").read_text().split()
        os.kill(int(children[-1]), signal.SIGKILL)
        _, said = job.communicate(timeout=120)
    assert job.returncode != 0
    assert "SIGKILL" in said or "-9" in said
    step = storage.load(Path("run/last.pt"))["step"]
    more = f"trainer.max_steps={step + 2}"
    for n_processes in (1, 2):
        result = train(n_processes, root, "run", more, "resume=true")
        assert result.returncode == 0, result.stderr
        assert storage.load(Path("run/last.pt"))["step"] == step + 2
        more = f"trainer.max_steps={step + 4}"
        step += 2
