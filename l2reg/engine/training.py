"""Put a training run together from its config."""

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from l2reg.config import build
from l2reg.data.cases import Pair
from l2reg.data.check import check_pairs, check_scans
from l2reg.data.dataset import Dataset
from l2reg.engine import checkpoint
from l2reg.engine.hooks import Log, Picture, Progress, SaveLast, Validate
from l2reg.engine.run_folder import describe_run, open_run
from l2reg.engine.seeding import seed_everything
from l2reg.engine.trainer import Hook, Settings, Trainer
from l2reg.engine.validation import Validation
from l2reg.engine.warm_start import Origin, warm_start
from l2reg.files import content_digest
from l2reg.inference.device import autocast, pick_device
from l2reg.inference.predictor import Predictor
from l2reg.models.prediction import grid_of
from l2reg.problems import InputError, Problem, raise_if_any


def prepare_training(config: Mapping[str, Any]) -> Trainer:
    """Check everything, then build the trainer of a run, resumed if the config says so.

    Args:
        config: As ``configs/train.yaml`` composes it, resolved.

    Raises:
        InputError: For whatever is wrong with options, data or the run folder, before anything
            is written.
    """
    settings: Settings = build(config["trainer"])
    device = pick_device(config["device"])
    autocast(device, settings.precision)  # refuses an unknown one
    raise_if_any(_unused_terms(config))
    data: Dataset = build(config["data"], task=build(config["task"]))
    run_dir = Path(config["run_dir"])
    val = _checked_pairs(data, settings)
    seed_everything(config["seed"])
    model: torch.nn.Module = build(config["model"])
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise InputError(_nothing_to_learn(config))
    origin = _origin(model, config)
    batches = data.batches(
        grid_of(model), batch_size=settings.batch_size, seed=config["seed"], device=device
    )
    keep = ("resume", "overwrite")
    state = open_run(run_dir, config, **{option: config[option] for option in keep})
    model.to(device)
    trainer = Trainer(
        model,
        build(config["loss"]),
        build(config["optimizer"], params=model.parameters()),
        build(config["scheduler"]),
        batches,
        settings,
    )
    _describe_training_set(data)
    if state is not None:
        _resume(trainer, state)
        origin = Origin.of_run(state)
    describe_run(run_dir, config)
    extra = {"config": dict(config), "l2reg": version("l2reg"), "origin": origin.stored()}
    extra["trained_on"] = origin.and_trained_on(_seen(data))
    last = SaveLast(run_dir, extra)
    if state is None:
        last.save(trainer)
    trainer.hooks = _hooks(trainer, run_dir, data, val, device, last)
    return trainer


def _origin(model: torch.nn.Module, config: Mapping[str, Any]) -> Origin:
    """Load the weights that a new run starts from, if it is told to."""
    if config["init_from"] is None or config["resume"]:
        return Origin()
    return warm_start(model, Path(config["init_from"]))


def _checked_pairs(data: Dataset, settings: Settings) -> list[Pair]:
    """Check all files of a run, and return its validation pairs."""
    val = data.listed("val") if settings.validate_every else []
    training = data.training_set
    task, cache = data.release.task, data.volumes
    problems = check_pairs([*training.listed, *val], task, cache, prealign=data.prealign)
    problems += check_scans(training.scans, task, cache)
    raise_if_any(problems)
    return val


def _describe_training_set(data: Dataset) -> None:
    training = data.training_set
    where = data.release.folder
    tqdm.write(
        f"training on {len(training.listed)} pairs of one patient and {len(training.scans)} single "
        f"scans below {where}"
    )
    if training.scored_images:
        names = ", ".join(str(path.relative_to(where)) for path in training.scored_images)
        tqdm.write(f"without labels and points, because their images are scored: {names}")


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
    data: Dataset,
    val: Sequence[Pair],
    device: torch.device,
    last: SaveLast,
) -> list[Hook]:
    settings = trainer.settings
    log = Log(run_dir, trainer)
    hooks: list[Hook] = [log]
    if val:
        reader = data.reader(grid_of(trainer.model))
        predictor = Predictor(trainer.model, reader, device, settings.precision)
        validation = Validation(predictor, val, trainer.objective)
        chosen_on = [content_digest(pair.fixed.image) for pair in val]

        def save_best(trainer: Trainer, scores: Mapping[str, float]) -> None:
            state = {"step": trainer.step, "model": trainer.model.state_dict(), **last.extra}
            state |= {"chosen_on": chosen_on, "scores": dict(scores)}
            checkpoint.save(run_dir / checkpoint.BEST, state)

        hooks.append(Validate(validation.score, save_best, log, settings.validate_every))
        if settings.picture_every:
            hooks.append(Picture(validation.draw, log, settings.picture_every))
    return [*hooks, last, Progress(trainer)]


def _seen(data: Dataset) -> dict[str, str]:
    """Return the digest of every image trained on, and whether with or without supervision."""
    training = data.training_set
    without = set(training.scored_images)
    return {
        content_digest(scan.image): "image" if scan.image in without else "supervised"
        for scan in training.all_scans()
    }


def _unused_terms(config: Mapping[str, Any]) -> list[Problem]:
    """Return what is wrong with a loss that would be 0 whatever the network does."""
    weight = config["loss"]["weights"].get("inverse_consistency", 0.0)
    if weight == 0 or config["trainer"]["symmetric"]:
        return []
    problem = Problem(
        where="loss.weights.inverse_consistency",
        what="needs both directions of a pair in one batch",
        expected="trainer.symmetric=true",
        found=f"weight {weight} and trainer.symmetric=false",
        remedy="add trainer.symmetric=true, or set the weight to 0",
    )
    return [problem]


def _nothing_to_learn(config: Mapping[str, Any]) -> Problem:
    name = config["model"]["_target_"]
    return Problem(
        where=f"model {name}",
        what="has nothing to train",
        expected="a network with parameters",
        found="none",
        remedy="use it without training: python predict.py model=... task=...",
    )
