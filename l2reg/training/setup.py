"""Training setup: build the trainer of a run from its config."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from l2reg.checkpoints import storage
from l2reg.checkpoints.provenance import Provenance
from l2reg.checkpoints.run_checkpoints import load_last
from l2reg.config.build import build
from l2reg.models.compilation import compile_network
from l2reg.models.prediction import StagedTraining
from l2reg.problems import Problem, raise_if_any
from l2reg.runtime import configure_convolutions
from l2reg.training.distributed import is_first, rank, start_processes, wait_for_all
from l2reg.training.hooks import Log, Picture, Progress, SaveLast, Validate
from l2reg.training.mixed_tasks import MixedBatches, MixedObjective, MixedValidation
from l2reg.training.prefetch import Batches
from l2reg.training.profile import Profile
from l2reg.training.run_folder import describe_run, open_run
from l2reg.training.run_options import build_network, check_options, training_settings
from l2reg.training.seeding import seed_everything, seed_rank
from l2reg.training.task_of_run import TrainingTask
from l2reg.training.trackers import Tracker, check_trackers, open_trackers
from l2reg.training.trainer import Hook, Trainer, TrainerSettings
from l2reg.training.training_task import open_training_tasks
from l2reg.training.validation import Score
from l2reg.training.warm_start import warm_start
from l2reg.version import __version__
from l2reg.wording import quantity


def prepare_training(config: Mapping[str, Any]) -> Trainer:
    """Check options and data, then build the trainer of a run, resumed if the config says so.

    Args:
        config: The resolved config that ``configs/train.yaml`` composes; that of a mixed run has
            ``task``, ``data`` and ``loss`` of every task below ``mixed.tasks``.

    Raises:
        InputError: If options, data or the run folder are incorrect, before anything is written.
    """
    settings = training_settings(config)
    tracker_names = check_trackers(config["track"])
    device = start_processes(config["device"])
    check_options(config)
    run_dir = Path(config["run_dir"])
    tasks = open_training_tasks(config, with_validation=settings.validate_every > 0)
    trainer, origin = build_trainer(config, settings, tasks, device)
    inputs = [path for task in tasks.values() for path in task.inputs]
    inputs += [Path(config["init_from"])] if config["init_from"] else []
    state = _open_run(run_dir, config, inputs)
    if is_first():
        for task in tasks.values():
            task.describe()
    if state is not None:
        origin = Provenance.of_run(state)
    stored = {key: value for key, value in config.items() if key != "trust"}
    extra = {"config": stored, "l2reg": __version__, "origin": origin.as_dict()}
    extra["trained_on"] = origin.merge_trained_on(*(task.image_uses() for task in tasks.values()))
    extra["validated_on"] = [digest for task in tasks.values() for digest in task.validated_on()]
    if state is not None:
        _check_same_images(run_dir, state, extra)
        _resume(trainer, state)
    last = SaveLast(run_dir, extra, None if state is None else state["step"])
    if state is None:
        if rank() > 0:
            seed_rank(config["seed"])
        last.save(trainer)
    trackers: tuple[Tracker, ...] = ()
    if is_first():
        describe_run(run_dir, config)
        trackers = open_trackers(tracker_names, run_dir, stored)
    log = Log(run_dir, trainer, stored, trackers)
    trainer.hooks = _hooks(trainer, log, tasks, device, last)
    return trainer


def build_trainer(
    config: Mapping[str, Any],
    settings: TrainerSettings,
    tasks: Mapping[str, TrainingTask],
    device: torch.device,
) -> tuple[Trainer, Provenance]:
    """Return the trainer of a run without hooks, and the provenance of its initial weights.

    Args:
        config: See ``prepare_training``.
        settings: See ``run_options.training_settings``.
        tasks: See ``open_training_tasks``.
        device: Device to train on.

    Raises:
        InputError: If a node of the config, or ``init_from``, is incorrect.
    """
    configure_convolutions(settings.precision, repeated=True)
    seed_everything(config["seed"])
    model = build_network(config).to(device)
    origin = _origin(model, config)
    if settings.compile:
        compile_network(model)
    trainer = Trainer(
        model,
        _objective(tasks),
        build(config["optimizer"], "optimizer", config["trust"], params=model.parameters()),
        build(config["scheduler"], "scheduler", config["trust"]),
        _batches(tasks, model, settings, config["seed"], device),
        settings,
    )
    return trainer, origin


def _open_run(
    run_dir: Path, config: Mapping[str, Any], inputs: Sequence[Path]
) -> Mapping[str, Any] | None:
    """Return the state to resume from; the first rank prepares the folder, the others wait."""
    options = {"resume": config["resume"], "overwrite": config["overwrite"], "inputs": inputs}
    loaded = open_run(run_dir, config, **options) if is_first() else None
    wait_for_all()
    if not is_first() and config["resume"]:
        loaded = load_last(run_dir)
    for note in loaded.notes if loaded else ():
        tqdm.write(f"warning: {note}")
    return loaded.state if loaded else None


def _origin(model: torch.nn.Module, config: Mapping[str, Any]) -> Provenance:
    """Load the initial weights of a new run (``init_from``), and return their provenance."""
    if config["init_from"] is None or config["resume"]:
        return Provenance()
    if config["trainer"]["stages"] and isinstance(model, StagedTraining):
        tqdm.write("its stages are trained again, coarse to fine; trainer.stages=false trains all")
    return warm_start(model, Path(config["init_from"]))


def _objective(tasks: Mapping[str, TrainingTask]) -> torch.nn.Module:
    objectives = {name: task.objective for name, task in tasks.items()}
    return MixedObjective(objectives) if len(tasks) > 1 else next(iter(objectives.values()))


def _batches(
    tasks: Mapping[str, TrainingTask],
    model: torch.nn.Module,
    settings: TrainerSettings,
    seed: int,
    device: torch.device,
) -> Batches:
    n_pairs = settings.batch_size * settings.accumulate
    batches = {
        name: task.batches(
            model,
            items=range(rank() * n_pairs, (rank() + 1) * n_pairs),
            seed=seed,
            device=device,
        )
        for name, task in tasks.items()
    }
    return MixedBatches(batches) if len(tasks) > 1 else next(iter(batches.values()))


def _resume(trainer: Trainer, state: Mapping[str, Any]) -> None:
    trainer.load_state_dict(state)
    before, now = state["max_steps"], trainer.settings.max_steps
    if not is_first():
        return
    if trainer.step >= now:
        tqdm.write(
            f"nothing to train: {trainer.step} steps are done, and trainer.max_steps is {now}"
        )
        return
    tqdm.write(f"continuing at step {trainer.step} of {now}")
    if before != now:
        tqdm.write(
            f"max_steps was {before} and is {now}: the learning rate continues as that of step "
            f"{trainer.step} of {now}"
        )


def _check_same_images(run_dir: Path, state: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to resume a run on other images: it would have been trained on two data sets.

    Raises:
        InputError: If the images to train on or to validate with, or the use of one, differ.
    """
    keys = {"trained_on": "to train on", "validated_on": "to validate with"}
    raise_if_any(
        Problem(
            where=f"data (resuming {run_dir})",
            what=f"are not those that the run was started with: images {use}",
            expected=f"the same {quantity(len(state[key]), 'image')}, with and without labels as "
            "before",
            found=f"{len(set(state[key]) - set(now[key]))} of them are missing or have changed, "
            f"{len(set(now[key]) - set(state[key]))} are new",
            remedy="restore the data; or start another run from these weights, which notes both "
            f"data sets: init_from={run_dir} run_dir=NAME",
        )
        for key, use in keys.items()
        if key in state and state[key] != now[key]
    )


def _hooks(
    trainer: Trainer,
    log: Log,
    tasks: Mapping[str, TrainingTask],
    device: torch.device,
    last: SaveLast,
) -> list[Hook]:
    settings, run_dir = trainer.settings, log.run_dir
    hooks: list[Hook] = [log] if is_first() else []
    if settings.profile_steps and is_first():
        hooks.insert(0, Profile(run_dir, settings.profile_steps, device))
    if settings.validate_every:
        validation = _validation(trainer, tasks, device)

        def save_best(trainer: Trainer, scores: Mapping[str, float]) -> None:
            state = {"step": trainer.step, "model": trainer.validated_model.state_dict()}
            state |= {**last.extra, "chosen_on": last.extra["validated_on"], "scores": dict(scores)}
            storage.save(run_dir / storage.BEST, state)

        hooks.append(Validate(validation.score, save_best, log, settings.validate_every))
        if settings.picture_every and is_first():
            hooks.append(Picture(validation.draw, log, settings.picture_every))
    hooks.append(last)
    return [*hooks, Progress(trainer)] if is_first() else hooks


def _validation(trainer: Trainer, tasks: Mapping[str, TrainingTask], device: torch.device) -> Score:
    validations = {
        name: task.validation(trainer.validated_model, device, trainer.settings.precision)
        for name, task in tasks.items()
    }
    return MixedValidation(validations) if len(tasks) > 1 else next(iter(validations.values()))
