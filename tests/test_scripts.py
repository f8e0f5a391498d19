"""The commands that users type, as users type them: in a process of their own."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml

from l2reg.checkpoints import storage

ROOT = Path(__file__).parents[1]
SMALL = ["device=cpu", "model.encoder=[4,6]", "model.decoder=[6]", "model.final=[4]",
         "task.pairs=3", "trainer.validate_every=2", "trainer.picture_every=0"]  # fmt: skip


def command(*arguments: str) -> list[str]:
    script, *rest = arguments
    return [sys.executable, str(ROOT / f"{script}.py"), *rest]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments), capture_output=True, text=True, check=False, timeout=120
    )


def good(*arguments: str) -> str:
    done = run(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def bad(*arguments: str) -> str:
    done = run(*arguments)
    assert done.returncode != 0, done.stdout
    assert "Traceback" not in done.stderr, done.stderr
    return done.stderr


def test_train_predict_evaluate_report(tmp_path: Path) -> None:
    said = good("train", "trainer.max_steps=3", *SMALL)
    assert "next: l2reg predict ckpt=runs/phantom_unet split=val" in said
    assert Path("data/phantom/lung_small_0/task_02/pairs_val.csv").exists()

    said = good("predict", "ckpt=runs/phantom_unet", "split=val", "save=[warped,transform]",
                "report=true")  # fmt: skip
    for words in (
        "zero field",
        "full resolution",
        "submission",
        "TRE mm",
        "note on full resolution, submission: best.pt was selected",
    ):
        assert words in said
    out = Path("runs/phantom_unet/predict_val")
    assert {path.name for path in out.iterdir()} == {
        ".l2reg_prediction", "config.yaml", "submission", "task_02.zip", "scores.json",
        "timings.csv", "score_notes.txt", "extra", "report.html",
    }  # fmt: skip

    said = good("evaluate", "task=phantom", "task.pairs=3", f"submission=[{out}/task_02.zip,{out}]",
                "report=true")  # fmt: skip
    assert said.splitlines()[-1] == "evaluation/phantom_val/report.html"
    evaluated = json.loads(Path("evaluation/phantom_val/scores.json").read_text())
    predicted = json.loads((out / "scores.json").read_text())
    evaluated, predicted = evaluated["submissions"], predicted["submissions"]
    assert evaluated[f"{out}/task_02.zip"] == evaluated[str(out)] == predicted["submission"]
    good("evaluate", "task=phantom", "task.pairs=3", f"submission={{ours: {out}}}", "out=named")
    assert Path("named/official_ours.json").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".cache",
        "data",
        "evaluation",
        "named",
        "runs",
    ]


@pytest.fixture
def own_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package of the user, with a network, a loss term and a feature, and a YAML file."""
    (tmp_path / "code/mypkg").mkdir(parents=True)
    (tmp_path / "code/mypkg/net.py").write_text(
        "import torch\nfrom torch import nn\nfrom l2reg.models.heads import FieldHead\n\n"
        "class TinyNet(nn.Module):\n"
        "    def __init__(self, channels: int, grid: str) -> None:\n"
        "        super().__init__()\n"
        "        self.grid, self.conv = grid, nn.Conv3d(2, channels, 3, padding=1)\n"
        "        self.head = FieldHead('displacement', channels)\n\n"
        "    def forward(self, batch):\n"
        "        pair = torch.cat([batch['fixed'], batch['moving']], dim=1)\n"
        "        return self.head(self.conv(pair), tuple(pair.shape[2:]))\n\n"
        "class Difference(nn.Module):\n"
        "    def forward(self, aligned):\n"
        "        return (aligned.warped - aligned.batch['fixed']).abs().mean(dim=(1, 2, 3, 4))\n\n"
        "class Raw:\n"
        "    def __call__(self, fixed, moving):\n"
        "        return fixed, moving\n"
    )
    (tmp_path / "mine/model").mkdir(parents=True)
    (tmp_path / "mine/model/tiny.yaml").write_text(
        "_target_: mypkg.net.TinyNet\nchannels: 3\ngrid: half\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'code'}:{ROOT}")


@pytest.mark.usefixtures("own_package")
@pytest.mark.slow
def test_a_package_of_the_user_trains_and_predicts_where_it_is_trusted() -> None:
    tiny = ["train", "--config-dir", "mine", "model=tiny", "device=cpu", "task.pairs=3",
            "trainer.max_steps=2", "trainer.validate_every=2", "trainer.picture_every=0",
            "loss=mse", "loss.terms.similarity._target_=mypkg.net.Difference"]  # fmt: skip
    told = bad(*tiny)
    assert "_target_: mypkg.net." in told
    assert "trust=[mypkg]" in told
    said = good(*tiny, "trust=[mypkg]")
    assert "next: l2reg predict ckpt=runs/phantom_tiny 'trust=[mypkg]' split=val" in said
    assert Path("runs/phantom_tiny/best.pt").is_file()

    told = bad("predict", "ckpt=runs/phantom_tiny")
    for words in ("best.pt, _target_: mypkg.net.TinyNet: cannot be built", "trust=[mypkg]",
                  "A checkpoint cannot do this for you"):  # fmt: skip
        assert words in told
    assert "TRE mm" in good("predict", "ckpt=runs/phantom_tiny", "trust=[mypkg]")
    assert "is not a list of packages" in bad("predict", "ckpt=runs/phantom_tiny", "trust=mypkg")

    convex = ["predict", "model=convex", "task=phantom", "task.pairs=3", "refine=none", "out=raw"]
    convex += ["~model.features", "+model.features={_target_: mypkg.net.Raw}"]
    assert "trust=[mypkg]" in bad(*convex)
    assert "TRE mm" in good(*convex, "trust=[mypkg]")


@pytest.mark.slow
def test_the_runs_of_a_multirun_write_into_folders_of_their_own() -> None:
    said = good("train", "-m", "seed=0,1", "trainer.max_steps=2", *SMALL)
    for seed in (0, 1):
        run = Path(f"runs/phantom_unet_seed-{seed}")
        assert f"ckpt={run} " in said
        assert yaml.safe_load((run / "config.yaml").read_text())["seed"] == seed
    said = good("predict", "-m", "ckpt=runs/phantom_unet_seed-0", "rules=2021,current")
    assert set(re.findall("submission: (.*)/task_02.zip", said)) == {
        f"runs/phantom_unet_seed-0/predict_val_rules-{rules}" for rules in ("2021", "current")
    }
    good("evaluate", "-m", "task=phantom", "task.pairs=3", "rules=2021,current")
    assert len(list(Path("evaluation").glob("phantom_val_rules-*/scores.json"))) == 2


@pytest.mark.slow
def test_every_task_of_a_mixed_run_is_composed_with_the_same_command_line(
    phantoms: dict[str, Path],
) -> None:
    made = Path("data/phantom/lung_small_0")  # as if it were the 32 pairs that the task has
    shutil.copytree(phantoms["lung"], made)
    manifest = json.loads((made / "phantom.json").read_text())
    (made / "phantom.json").write_text(json.dumps({**manifest, "pairs": 32}))
    mixed = ["train", "task=mixed", "mixed.only=[phantom]", "trainer.max_steps=2"]
    small = [option for option in SMALL if not option.startswith("task.")]
    said = bad(*mixed[:2], "mixed.only=[phantom,lnug]", *small)
    assert "different tasks out of abdomen, lung, oasis, own, phantom" in said
    said = good(*mixed, "loss=mse", "seed=4", "data.exclude=[phantom/2]", *small)
    assert "next: l2reg predict ckpt=runs/mixed_unet task=... split=val" in said
    config = yaml.safe_load(Path("runs/mixed_unet/config.yaml").read_text())
    assert set(config) >= {"model", "trainer", "mixed"}
    assert not {"task", "data", "loss"} & set(config)
    (task,) = config["mixed"]["tasks"].values()
    assert task["loss"]["terms"]["similarity"]["_target_"] == "l2reg.losses.mse.MSE"
    assert task["loss"]["weights"]["keypoints"] == 0.3
    assert task["data"]["exclude"] == ["2"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_stopped_by_a_signal_goes_on_as_if_nothing_had_happened(
    number: signal.Signals,
) -> None:
    good("train", "trainer.max_steps=25", "run_dir=whole", *SMALL)

    process = subprocess.Popen(
        command("train", "trainer.max_steps=25", "run_dir=cut", *SMALL),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    metrics, deadline = Path("cut/metrics.jsonl"), time.monotonic() + 60
    while not (metrics.exists() and metrics.read_text().count("train/loss") > 5):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "resume=true continues" in stderr
    assert "Traceback" not in stderr
    stopped_at = json.loads(metrics.read_text().splitlines()[-1])["step"]
    assert 6 <= stopped_at < 25
    assert storage.load(Path("cut/last.pt"))["step"] == stopped_at

    said = good("train", "trainer.max_steps=25", "run_dir=cut", "resume=true", *SMALL)
    assert f"continuing at step {stopped_at} of 25" in said
    assert metrics.read_text() == Path("whole/metrics.jsonl").read_text()
    assert_same_weights("cut/last.pt", "whole/last.pt")
    said = good("train", "trainer.max_steps=25", "run_dir=cut", "resume=true", *SMALL)
    assert "trained 25 steps" in said


def assert_same_weights(path: str, other: str) -> None:
    weights, expected = (storage.load(Path(each))["model"] for each in (path, other))
    assert weights.keys() == expected.keys()
    for name, value in weights.items():
        assert torch.equal(value, expected[name]), name


@pytest.mark.slow
def test_two_trainings_on_one_new_phantom_and_cache_equal_one_alone() -> None:
    three_steps = ["train", "trainer.max_steps=3", *SMALL]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    commands = [command(*three_steps, f"run_dir={n}", "data.cache=shared") for n in ("one", "two")]
    processes = [subprocess.Popen(each, **pipes, text=True) for each in commands]  # type: ignore[call-overload]
    for process in processes:
        _, stderr = process.communicate(timeout=120)
        assert process.returncode == 0, stderr
    good(*three_steps, "run_dir=alone", "data.cache=null")
    for name in ("one", "two"):
        assert_same_weights(f"{name}/last.pt", "alone/last.pt")
        assert Path(name, "metrics.jsonl").read_text() == Path("alone/metrics.jsonl").read_text()
    assert [path for path in Path("shared").rglob("*") if path.suffix != ".npy"] == []


def test_ctrl_c_ends_a_command_with_one_line_and_leaves_nothing() -> None:
    code = """if True:
        import signal
        from l2reg.cli.main import main
        signal.signal(signal.SIGINT, signal.default_int_handler)
        main(["phantom", "--flavour", "lung", "--out", "made", "--pairs", "99"])"""
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while not any(Path().glob(".part_*")):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stderr.splitlines()[-1] == "interrupted"
    assert "Traceback" not in stderr
    assert list(Path().iterdir()) == []


WRONG_INPUT = [  # arguments, and words of the message
    (["train", "seed=-1", "task.pairs=2"], ["seed=-1: is no random seed"]),
    (["train", "device=meta"], ["device=meta: cannot be used"]),
    (["train", "run_dir=/proc/x", "task.pairs=2"], ["/proc/x: cannot be written"]),
    (["train", "-m", "--cfg", "job"], ["Only one of"]),
    (["train", "model=null"], ["error: model=null: use one of", "unet"]),
    (["evaluate", "task=lung", "out=${nothing}"], ["error: out: ", "'nothing' not found"]),
    (["train", "run_dir=${nothing}"], ["error: run_dir: "]),
    (["predict", "out=${nothing}"], ["error: out: "]),
    (["train", "max_steps=3"], ["did you mean trainer.max_steps"]),
    (["train", "task=lnug"], ["task/lnug", "abdomen", "lung", "oasis", "phantom"]),
    (["train", "model=unett"], ["model/unett", "unet", "zero"]),
    (["train", "model.widht=3"], ["model.widht"]),
    (["train", "+modle=unet"], ["modle", "did you mean 'model'"]),
    (["train", "task=lung"], ["holds no data of task lung", "grand-challenge.org", "task_02"]),
    (["train", "data.layout=2022", "task.pairs=1"], ["data.layout=2022", "auto"]),
    (["train", "device=cuda:9"], ["device=cuda:9"]),
    (["train", "trainer.precision=fp8"], ["float32, tf32, bf16"]),
    (["train", "model.head=afine", "task.pairs=1"], ["displacement, velocity"]),
    (["train", "data.augment.rotatoin=3"], ["rotatoin"]),
    (["predict", "ckpt=nowhere"], ["nowhere", "is missing"]),
    (["predict"], ["ckpt=RUN"]),
    (
        ["evaluate", "task=phantom", "task.pairs=1", "submission=[nothing.zip]"],
        ["no such file"],
    ),
    (["evaluate"], ["needs task="]),
    (["evaluate", "task=phantom", "task.pairs=1", "rules=2022"], ["rules=2022", "2021, current"]),
    (
        ["evaluate", "task=phantom", "task.pairs=1", "show=[cases,label]"],
        ["show=label", "statistics"],
    ),
]
RUN_EACH = """if True:
    import json, os, sys
    import l2reg.inference.predict_split, l2reg.reporting.evaluate_submissions, l2reg.training.setup
    from l2reg.cli.main import main
    for n, arguments in enumerate(json.load(open("arguments.json"))):
        os.mkdir(str(n))
        if os.fork() == 0:
            os.chdir(str(n))
            for stream in (1, 2):
                os.dup2(os.open(f"said_{stream}", os.O_CREAT | os.O_WRONLY), stream)
            sys.argv = ["l2reg", *arguments]
            main(arguments)
            sys.exit(0)
        _, status = os.wait()
        print(os.waitstatus_to_exitcode(status))
"""


def test_wrong_input_ends_with_a_message_and_without_a_traceback() -> None:
    """One process imports what all cases need, and forks for each."""
    Path("arguments.json").write_text(json.dumps([arguments for arguments, _ in WRONG_INPUT]))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", RUN_EACH],
        stdout=subprocess.PIPE, text=True, check=True, timeout=300,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    statuses = done.stdout.split()
    assert len(statuses) == len(WRONG_INPUT)
    for n, ((arguments, words), status) in enumerate(zip(WRONG_INPUT, statuses, strict=True)):
        message = Path(f"{n}/said_2").read_text()
        assert int(status) > 0, arguments
        assert "Traceback" not in message, message
        assert [word for word in words if word not in message] == [], message
        assert not Path(f"{n}/runs").exists(), arguments


def test_an_existing_run_is_refused_before_anything_is_lost() -> None:
    Path("runs/phantom_unet").mkdir(parents=True)
    Path("runs/phantom_unet/config.yaml").write_text("mine")
    message = bad("train", *SMALL)
    for words in ("resume=true", "overwrite=true", "run_dir="):
        assert words in message
    assert Path("runs/phantom_unet/config.yaml").read_text() == "mine"


def test_a_misspelt_key_is_told_with_the_nearest_one() -> None:
    said = bad("predict", "model=convex", "task=lung", "refine.cg_iteration=3")
    assert "is not a key; did you mean refine.cg_iterations" in said.splitlines()[-1]
