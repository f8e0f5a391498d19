"""Put a training run together from its config."""

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from l2reg.checkpoints import storage
from l2reg.checkpoints.provenance import Provenance
from l2reg.config.build import build
from l2reg.inference.method import Method
from l2reg.inference.predictor import Predictor
from l2reg.io.files import content_digest
from l2reg.models.prediction import grid_of
from l2reg.problems import InputError, Problem
from l2reg.runtime import autocast, select_device
from l2reg.training.hooks import Log, Picture, Progress, SaveLast, Validate
from l2reg.training.mixed_tasks import MixedBatches, MixedObjective, MixedValidation
from l2reg.training.run_folder import describe_run, open_run
from l2reg.training.seeding import seed_everything
from l2reg.training.trainer import Batches, Hook, Trainer, TrainerSettings
from l2reg.training.training_task import TrainingTask, open_training_tasks
from l2reg.training.validation import Validation
from l2reg.training.warm_start import warm_start


def prepare_training(config: Mapping[str, Any]) -> Trainer:
    """Check everything, then build the trainer of a run, resumed if the config says so.

    Args:
        config: As ``configs/train.yaml`` composes it, resolved; that of a mixed run has ``task``,
            ``data`` and ``loss`` of every task below ``mixed.tasks``.

    Raises:
        InputError: For whatever is wrong with options, data or the run folder, before anything
            is written.
    """
    settings: TrainerSettings = build(config["trainer"])
    device = select_device(config["device"])
    autocast(device, settings.precision)  # refuses an unknown one
    run_dir = Path(config["run_dir"])
    parts = open_training_tasks(config, validated=settings.validate_every > 0)
    seed_everything(config["seed"])
    model = _model(config).to(device)
    origin = _origin(model, config)
    trainer = Trainer(
        model,
        _objective(parts),
        build(config["optimizer"], params=model.parameters()),
        build(config["scheduler"]),
        _batches(parts, model, settings, config["seed"], device),
        settings,
    )
    keep = ("resume", "overwrite")
    state = open_run(run_dir, config, **{option: config[option] for option in keep})
    for part in parts.values():
        part.describe()
    if state is not None:
        _resume(trainer, state)
        origin = Provenance.of_run(state)
    describe_run(run_dir, config)
    extra = {"config": dict(config), "l2reg": version("l2reg"), "origin": origin.stored()}
    extra["trained_on"] = origin.and_trained_on(*(part.seen() for part in parts.values()))
    last = SaveLast(run_dir, extra)
    if state is None:
        last.save(trainer)
    trainer.hooks = _hooks(trainer, run_dir, parts, device, last)
    return trainer


def _model(config: Mapping[str, Any]) -> torch.nn.Module:
    model: torch.nn.Module = build(config["model"])
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise InputError(_nothing_to_learn(config))
    return model


def _origin(model: torch.nn.Module, config: Mapping[str, Any]) -> Provenance:
    """Load the weights that a new run starts from, if it is told to."""
    if config["init_from"] is None or config["resume"]:
        return Provenance()
    return warm_start(model, Path(config["init_from"]))


def _objective(parts: Mapping[str, TrainingTask]) -> torch.nn.Module:
    objectives = {name: part.objective for name, part in parts.items()}
    return MixedObjective(objectives) if len(parts) > 1 else next(iter(objectives.values()))


def _batches(
    parts: Mapping[str, TrainingTask],
    model: torch.nn.Module,
    settings: TrainerSettings,
    seed: int,
    device: torch.device,
) -> Batches:
    batches = {
        name: part.data.batches(
            grid_of(model), batch_size=settings.batch_size, seed=seed, device=device
        )
        for name, part in parts.items()
    }
    return MixedBatches(batches) if len(parts) > 1 else next(iter(batches.values()))


def _resume(trainer: Trainer, state: Mapping[str, Any]) -> None:
    trainer.load_state_dict(state)
    before, now = state["max_steps"], trainer.settings.max_steps
    tqdm.write(f"continuing at step {trainer.step} of {now}")
    if before != now:
        tqdm.write(
            f"max_steps was {before} and is {now}: the learning rate goes on as that of step "
            f"{trainer.step} of {now}"
        )


def _hooks(
    trainer: Trainer,
    run_dir: Path,
    parts: Mapping[str, TrainingTask],
    device: torch.device,
    last: SaveLast,
) -> list[Hook]:
    settings = trainer.settings
    log = Log(run_dir, trainer)
    hooks: list[Hook] = [log]
    if settings.validate_every:
        validation = _validation(trainer, parts, device)
        chosen_on = [content_digest(p.fixed.image) for part in parts.values() for p in part.val]

        def save_best(trainer: Trainer, scores: Mapping[str, float]) -> None:
            state = {"step": trainer.step, "model": trainer.model.state_dict(), **last.extra}
            state |= {"chosen_on": chosen_on, "scores": dict(scores)}
            storage.save(run_dir / storage.BEST, state)

        hooks.append(Validate(validation.score, save_best, log, settings.validate_every))
        if settings.picture_every:
            hooks.append(Picture(validation.draw, log, settings.picture_every))
    return [*hooks, last, Progress(trainer)]


def _validation(
    trainer: Trainer, parts: Mapping[str, TrainingTask], device: torch.device
) -> Validation | MixedValidation:
    validations = {}
    for name, part in parts.items():
        method = Method(trainer.model, None, device, trainer.settings.precision)
        predictor = Predictor(method, part.data.reader)
        validations[name] = Validation(predictor, part.val, part.objective)
    return MixedValidation(validations) if len(parts) > 1 else next(iter(validations.values()))


def _nothing_to_learn(config: Mapping[str, Any]) -> Problem:
    name = config["model"]["_target_"]
    return Problem(
        where=f"model {name}",
        what="has nothing to train",
        expected="a network with parameters",
        found="none",
        remedy="use it without training: python predict.py model=... task=...",
    )
