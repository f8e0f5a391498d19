import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from l2reg.checkpoints import storage
from l2reg.problems import InputError
from l2reg.training.run_folder import describe_run, open_run

CONFIG: dict[str, Any] = {
    "seed": 0,
    "device": "auto",
    "resume": False,
    "overwrite": False,
    "trainer": {"max_steps": 10, "batch_size": 1},
    "data": {"root": None},
}


def started(run: Path, step: int = 4) -> None:
    open_run(run, CONFIG, resume=False, overwrite=False)
    describe_run(run, CONFIG)
    storage.save(run / "last.pt", {"step": step})
    lines = [json.dumps({"step": n, "train/loss": 1.0}) for n in range(1, 8)]
    (run / "metrics.jsonl").write_text("\n".join(lines) + "\n")


def test_a_new_run_gets_its_folder(tmp_path: Path) -> None:
    assert open_run(tmp_path / "run", CONFIG, resume=False, overwrite=False) is None
    describe_run(tmp_path / "run", CONFIG)
    assert yaml.safe_load((tmp_path / "run/config.yaml").read_text()) == CONFIG
    environment = json.loads((tmp_path / "run/environment.json").read_text())
    assert environment["packages"]["torch"]
    assert environment["threads"] >= 1
    assert set(environment) >= {"python", "commit", "dirty", "platform", "gpus"}


def test_an_existing_run_asks_what_to_do(tmp_path: Path) -> None:
    started(tmp_path / "run")
    with pytest.raises(InputError, match=r"(?s)exists.*resume=true.*overwrite=true.*run_dir="):
        open_run(tmp_path / "run", CONFIG, resume=False, overwrite=False)
    assert (tmp_path / "run/last.pt").exists()


def test_overwriting_deletes_a_run_but_nothing_else(tmp_path: Path) -> None:
    started(tmp_path / "run")
    assert open_run(tmp_path / "run", CONFIG, resume=False, overwrite=True) is None
    assert [path.name for path in (tmp_path / "run").iterdir()] == [".l2reg_run"]
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/a.jpg").write_text("x")
    with pytest.raises(InputError, match=r"has no \.l2reg_run"):
        open_run(tmp_path / "photos", CONFIG, resume=False, overwrite=True)


def test_resuming_returns_the_last_state_and_forgets_later_metrics(tmp_path: Path) -> None:
    started(tmp_path / "run", step=4)
    state = open_run(tmp_path / "run", {**CONFIG, "resume": True}, resume=True, overwrite=False)
    assert state is not None
    assert state.state["step"] == 4
    steps = [
        json.loads(line)["step"]
        for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()
    ]
    assert steps == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "broken", ['{"step": 3, "trai', '{"step"', "{", "null", "12", '{"loss": 1}', "\0\0\0"]
)
def test_a_broken_line_of_the_metrics_is_dropped_and_complete_ones_stay(
    tmp_path: Path, broken: str
) -> None:
    started(tmp_path / "run", step=4)
    metrics = tmp_path / "run/metrics.jsonl"
    lines = metrics.read_text().splitlines()
    metrics.write_bytes("\n".join([*lines[:3], broken]).encode() + b"\xe2")
    open_run(tmp_path / "run", CONFIG, resume=True, overwrite=False)
    assert metrics.read_text().splitlines() == lines[:3]


@pytest.mark.parametrize("content", [None, "a: [", "\0"])
def test_a_run_whose_config_is_lost_is_not_resumed(tmp_path: Path, content: str | None) -> None:
    started(tmp_path / "run")
    config = tmp_path / "run/config.yaml"
    if content is None:
        config.unlink()
    else:
        config.write_text(content)
    with pytest.raises(InputError, match=r"(?s)config\.yaml: cannot be read.*init_from="):
        open_run(tmp_path / "run", CONFIG, resume=True, overwrite=False)


def test_resuming_with_other_settings_names_each_of_them(tmp_path: Path) -> None:
    started(tmp_path / "run")
    other = {**CONFIG, "seed": 1, "trainer": {"max_steps": 10, "batch_size": 2}, "resume": True}
    with pytest.raises(InputError) as error:
        open_run(tmp_path / "run", other, resume=True, overwrite=False)
    assert [problem.where.split(" ")[0] for problem in error.value.problems] == [
        "seed",
        "trainer.batch_size",
    ]


def test_more_steps_another_device_or_root_are_no_other_run(tmp_path: Path) -> None:
    started(tmp_path / "run")
    more = {**CONFIG, "device": "cpu", "trainer": {"max_steps": 20, "batch_size": 1},
            "data": {"root": "/elsewhere"}, "trust": ["mypkg"]}  # fmt: skip
    assert open_run(tmp_path / "run", more, resume=True, overwrite=False) is not None


def test_a_run_of_a_build_without_a_key_had_the_value_of_that_build(tmp_path: Path) -> None:
    started(tmp_path / "run")
    trainer = {**CONFIG["trainer"], "stages": True, "keep": 2, "patience": None}
    now = {**CONFIG, "trainer": trainer}
    assert open_run(tmp_path / "run", now, resume=True, overwrite=False) is not None
    with pytest.raises(InputError, match=r"trainer\.stages .*differs"):
        changed = {**CONFIG, "trainer": {**trainer, "stages": False}}
        open_run(tmp_path / "run", changed, resume=True, overwrite=False)


def test_nothing_to_resume_is_said_as_such(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no run to resume"):
        open_run(tmp_path / "none", CONFIG, resume=True, overwrite=False)


def test_resuming_and_overwriting_exclude_each_other(tmp_path: Path) -> None:
    started(tmp_path / "run")
    with pytest.raises(InputError, match="cannot be both resumed and overwritten"):
        open_run(tmp_path / "run", CONFIG, resume=True, overwrite=True)
    assert (tmp_path / "run/last.pt").exists()


def test_a_name_with_an_equals_sign_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="equals sign"):
        open_run(tmp_path / "lr=1", CONFIG, resume=False, overwrite=False)


@pytest.mark.parametrize("content", ["a: &a [x]\nb: *a\n", "[" * 5000, "\x00", "a: 1\na: 2\n"])
def test_a_config_that_l2reg_did_not_write_is_refused_at_once(tmp_path: Path, content: str) -> None:
    started(tmp_path / "run")
    (tmp_path / "run/config.yaml").write_text(content)
    with pytest.raises(InputError, match=r"config\.yaml: cannot be read"):
        open_run(tmp_path / "run", {**CONFIG, "resume": True}, resume=True, overwrite=False)
