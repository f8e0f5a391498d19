"""The folder of a training run: its config and environment, and whether it can be resumed."""

import platform
import re
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import yaml

import l2reg
from l2reg.checkpoints import storage
from l2reg.checkpoints.run_checkpoints import (
    LoadedCheckpoint,
    drop_newer,
    earlier_checkpoints,
    load_last,
)
from l2reg.config.yaml_files import load_yaml
from l2reg.io.files import atomic_write, check_writable, strict_json
from l2reg.io.output_folders import OutputKind, claim_output_folder, hold_output_folder
from l2reg.problems import InputError, Problem
from l2reg.training.run_files import CONFIG, METRICS, flatten, step_of
from l2reg.training.source_commit import source_commit
from l2reg.version import __version__

_MAY_CHANGE = (
    "resume",
    "overwrite",
    "device",
    "trust",
    "track",
    "data.root",
    "task.root",
    "data.cache",
    "trainer.max_steps",
    "trainer.activation_checkpointing",
    "trainer.compile",
    "trainer.keep",
    "trainer.profile_steps",
    "trainer.patience",
)
_EARLIER_BUILDS = {"trainer.stages": True}  # values where the config has no such key
_OF_MIXED_TASK = re.compile(r"^mixed\.tasks\.[^.]+\.")
_PACKAGES = ("torch", "monai", "numpy", "scipy", "nibabel", "hydra-core")


def check_run_folder(run_dir: Path, *, resume: bool, overwrite: bool) -> None:
    """Check that a run can be started or resumed in a folder; nothing is changed there.

    Raises:
        InputError: If the folder holds files and neither ``resume`` nor ``overwrite`` is true, if
            both are true, if there is no run to resume, or if it cannot be written to.
    """
    if "=" in str(run_dir):
        raise InputError(
            Problem(
                where=f"run_dir={run_dir}",
                what="has an equals sign in its name",
                expected="a name that can be given as ckpt=NAME",
                found=str(run_dir),
                remedy="choose another name",
            )
        )
    if resume and not overwrite:
        if not ((run_dir / storage.LAST).is_file() or earlier_checkpoints(run_dir)):
            raise InputError(_nothing_to_resume(run_dir))
        return
    contents = {path.name for path in run_dir.iterdir()} if run_dir.is_dir() else set()
    contents -= {OutputKind.RUN}
    if resume or (contents and not overwrite):
        raise InputError(
            Problem(
                where=f"run_dir={run_dir}",
                what="exists" if not resume else "cannot be both resumed and overwritten",
                expected="a new folder, or either resume=true or overwrite=true",
                found=", ".join(sorted(contents)) or "no run",
                remedy="resume=true continues the run in the folder, overwrite=true deletes it if "
                "l2reg wrote it, run_dir=NAME starts another run",
            )
        )
    check_writable(run_dir)


def open_run(
    run_dir: Path,
    config: Mapping[str, Any],
    *,
    resume: bool,
    overwrite: bool,
    inputs: Iterable[Path] = (),
) -> LoadedCheckpoint | None:
    """Prepare the folder of a run, hold it for this process, and return the state to resume from.

    Args:
        run_dir: The folder.
        config: The resolved config of the run.
        resume: Whether to continue the run in the folder.
        overwrite: Whether to delete the run in the folder.
        inputs: Files and folders that the run reads, which are never deleted.

    Returns:
        The last checkpoint that is not damaged, or ``None`` for a new run.

    Raises:
        InputError: See ``check_run_folder``; and if the settings of the run to resume differ from
            ``config``, or if another process writes to the folder.
    """
    check_run_folder(run_dir, resume=resume, overwrite=overwrite)
    if resume and not overwrite:
        _check_same(run_dir, config)
        hold_output_folder(run_dir, OutputKind.RUN)
        loaded = load_last(run_dir)
        drop_newer(run_dir, loaded.path)
        _drop_later_steps(run_dir / METRICS, loaded.state["step"])
        return loaded
    claim_output_folder(run_dir, OutputKind.RUN, overwrite=overwrite, inputs=inputs)
    return None


def _nothing_to_resume(run_dir: Path) -> Problem:
    return Problem(
        where=f"run_dir={run_dir}",
        what="holds no run to resume",
        expected=f"a folder with a {storage.LAST}",
        found=f"a folder without {storage.LAST}" if run_dir.is_dir() else "no such folder",
        remedy="name the folder of the run (run_dir=...), or leave resume=true out to start a run",
    )


def describe_run(run_dir: Path, config: Mapping[str, Any]) -> None:
    """Write the resolved config and the environment of a run into its folder."""
    with atomic_write(run_dir / CONFIG) as temporary:
        temporary.write_text(yaml.safe_dump(dict(config), sort_keys=False), encoding="utf-8")
    with atomic_write(run_dir / "environment.json") as temporary:
        temporary.write_text(strict_json(environment(), indent=1), encoding="utf-8")


def environment() -> dict[str, Any]:
    """Return versions, commit and hardware, so that the run can be reproduced."""
    commit, has_changes = source_commit(Path(l2reg.__file__).parent)
    return {
        "python": platform.python_version(),
        "packages": {"l2reg": __version__, **{name: version(name) for name in _PACKAGES}},
        "commit": commit,
        "dirty": has_changes,
        "platform": platform.platform(),
        "threads": torch.get_num_threads(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
    }


def _check_same(run_dir: Path, config: Mapping[str, Any]) -> None:
    """Raise ``InputError`` for every setting that differs from those the run was started with."""
    before = _EARLIER_BUILDS | dict(flatten(_read_config(run_dir / CONFIG)))
    now = _EARLIER_BUILDS | dict(flatten(config))
    changed = [
        key
        for key in sorted({*before, *now})
        if before.get(key) != now.get(key) and _OF_MIXED_TASK.sub("", key) not in _MAY_CHANGE
    ]
    if changed:
        raise InputError(
            Problem(
                where=f"{key} (resuming {run_dir})",
                what="differs from the value that the run was started with",
                expected=f"{before.get(key)}",
                found=f"{now.get(key)}",
                remedy="repeat the command that started the run; other settings need a new run_dir",
            )
            for key in changed
        )


def _read_config(path: Path) -> Any:
    """Return the config that a run was started with.

    Raises:
        InputError: If the file is missing or damaged.
    """
    try:
        return load_yaml(path)
    except (OSError, ValueError) as error:
        raise InputError(
            Problem(
                where=str(path),
                what="cannot be read, so that the run cannot be resumed",
                expected="the config that l2reg train wrote",
                found=" ".join(str(error).split())[:200],
                remedy="restore the file, or start another run from the weights: "
                f"init_from={path.parent / storage.LAST} run_dir=NAME",
            )
        ) from error


def _drop_later_steps(metrics: Path, step: int) -> None:
    """Drop the lines of the steps after ``step``, which a resumed run repeats, and broken lines.

    A full disk or a power cut breaks the last line.
    """
    if not metrics.is_file():
        return
    lines = metrics.read_text(encoding="utf-8", errors="replace").splitlines()
    kept = [line for line in lines if step_of(line) <= step]
    with atomic_write(metrics) as temporary:
        temporary.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
