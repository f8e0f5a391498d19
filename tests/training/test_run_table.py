import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from l2reg.io.output_folders import OutputKind, hold_output_folder
from l2reg.problems import InputError
from l2reg.training.run_table import run_table

MODEL = {"_target_": "l2reg.models.unet.UNet", "encoder": [4, 6]}


def write_run(path: Path, scores: list[dict[str, Any]], **changes: Any) -> None:
    config = {"run_dir": str(path), "seed": 0, "model": MODEL,
              "trainer": {"max_steps": 40, "patience": None}, **changes}  # fmt: skip
    path.mkdir(parents=True)
    (path / ".l2reg_run").touch()
    (path / "config.yaml").write_text(yaml.safe_dump(config))
    lines = [{"step": step, "train/loss": 1.0} for step in range(1, 10 * len(scores) + 1)]
    lines += [{"step": 10 * (n + 1), **score} for n, score in enumerate(scores)]
    (path / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)) + '\n{"step": 99, "tr')


def dice(*values: float | None) -> list[dict[str, Any]]:
    return [{"val/dsc": value, "val/sdlogj": 9.0} for value in values]


def test_runs_are_listed_best_first_with_what_differs(tmp_path: Path) -> None:
    write_run(tmp_path / "a", dice(0.5, 0.6, 0.55))
    write_run(tmp_path / "deep/b", dice(0.5, 0.7, 0.6, 0.1), seed=1)
    write_run(tmp_path / "c", dice(None, 0.4))
    lines = run_table(tmp_path).splitlines()
    assert [line.split()[0] for line in lines] == ["run", "deep/b", "a", "c"]
    assert lines[0].split("  ")[-1] == "settings that differ"
    assert lines[1].split()[1:] == ["0.7000", "(20)", "40", "of", "40", "finished", "seed=1"]
    assert lines[2].split()[1:] == ["0.6000", "(20)", "30", "of", "40", "stopped", "seed=0"]
    assert lines[3].split()[1:3] == ["0.4000", "(20)"]


def test_errors_are_best_when_small_and_tasks_have_columns_of_their_own(tmp_path: Path) -> None:
    write_run(tmp_path / "a", [{"val/tre_mm": 3.0}, {"val/tre_mm": 2.5}])
    write_run(tmp_path / "b", [{"val/tre_mm": 2.0}, {"val/tre_mm": 2.5}])
    write_run(tmp_path / "mixed", [{"val/lung/tre_mm": 9.0, "val/oasis/dsc": 0.1}])
    lines = run_table(tmp_path).splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["mixed", "b", "a"]
    headings = ["best oasis/dsc (step)", "best lung/tre_mm (step)", "best tre_mm (step)"]
    assert [lines[0].index(heading) for heading in headings] == sorted(
        map(lines[0].index, headings)
    )
    assert lines[2].split()[1:5] == ["-", "-", "2.0000", "(10)"]


def test_of_two_networks_only_the_name_is_told(tmp_path: Path) -> None:
    write_run(tmp_path / "a", dice(0.5))
    other = {"_target_": "l2reg.models.pyramid.Pyramid", "levels": 3}
    write_run(tmp_path / "b", dice(0.6), model=other, optimizer={"lr": 0.1})
    lines = run_table(tmp_path).splitlines()
    assert lines[1].endswith("stopped  model=Pyramid  optimizer.lr=0.1")
    assert lines[2].endswith("stopped  model=UNet")


def test_a_run_that_lost_patience_is_finished(tmp_path: Path) -> None:
    trainer = {"max_steps": 40, "patience": 2}
    write_run(tmp_path / "ended", dice(0.5, 0.5, 0.4), trainer=trainer)
    write_run(tmp_path / "killed", dice(0.5, 0.4), trainer=trainer)
    lines = run_table(tmp_path).splitlines()
    assert {line.split()[0]: line.split()[-1] for line in lines[1:]} == {
        "ended": "finished",
        "killed": "stopped",
    }


def test_a_run_in_progress_and_one_without_config_say_so(tmp_path: Path) -> None:
    write_run(tmp_path / "a", dice(0.5))
    write_run(tmp_path / "b", dice(0.4))
    hold_output_folder(tmp_path / "a", OutputKind.RUN)
    (tmp_path / "b/config.yaml").write_text("[")
    lines = run_table(tmp_path).splitlines()
    assert " running" in lines[1]
    assert "10 of ?  config.yaml is missing or damaged" in lines[2]


def test_one_run_is_a_folder_too_and_a_folder_without_runs_is_told(tmp_path: Path) -> None:
    write_run(tmp_path / "a", dice(0.5))
    assert run_table(tmp_path / "a").splitlines()[1].split()[0] == "a"
    (tmp_path / "empty").mkdir()
    for name in ("empty", "none"):
        with pytest.raises(InputError, match="has no training runs"):
            run_table(tmp_path / name)


def test_listing_runs_loads_no_pytorch(tmp_path: Path) -> None:
    write_run(tmp_path / "a", dice(0.5))
    code = "import sys; from l2reg.cli.main import main; main(['runs', sys.argv[1]]); "
    code += "print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "False"
