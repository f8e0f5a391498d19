import gzip
import json
from pathlib import Path

import pytest
import torch

from l2reg.training.profile import Profile
from l2reg.training.trainer import Trainer

CPU = torch.device("cpu")
TRAINER = Trainer.__new__(Trainer)  # which the hook does not look at


def take_steps(profile: Profile, n: int) -> None:
    maps, weight = torch.rand(1, 2, 8, 9, 10), torch.rand(3, 2, 3, 3, 3)
    for _ in range(n):
        torch.nn.functional.conv3d(maps, weight)
        profile(TRAINER, {})


def test_the_dearest_operators_are_printed_and_traced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    profile = Profile(tmp_path, 3, CPU)
    take_steps(profile, 7)
    profile.close()
    said = capsys.readouterr().out
    assert "no profile" not in said
    assert "the 15 dearest operators of 3 steps" in said
    (line,) = [line for line in said.splitlines() if line.split()[:1] == ["aten::conv3d"]]
    assert line.split()[-1] == "3"  # the steps before and after are left out
    with gzip.open(tmp_path / "trace.json.gz") as file:
        assert "aten::conv3d" in {event.get("name") for event in json.load(file)["traceEvents"]}


def test_a_run_that_ends_before_leaves_no_trace_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    profile = Profile(tmp_path, 3, CPU)
    take_steps(profile, 3)
    profile.close()
    assert not list(tmp_path.iterdir())
    assert "no profile: it takes 5 steps, and this run took 3" in capsys.readouterr().out
