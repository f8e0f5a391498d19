"""Put a prediction together from its config: a checkpoint's, or a model that needs no training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from l2reg.config import build
from l2reg.data.cases import Pair
from l2reg.data.check import check_pairs
from l2reg.data.dataset import Dataset
from l2reg.engine.method import OWN_KEYS, name_of, prepare_method
from l2reg.evaluation.rules import Rules, rules_named
from l2reg.files import fresh_folder, written_whole
from l2reg.inference.export import check_grid
from l2reg.inference.extras import check_extras
from l2reg.inference.predictor import Predictor
from l2reg.problems import InputError, Problem, raise_if_any

CONFIG = "config.yaml"  # marks a folder that may be overwritten


@dataclass(frozen=True)
class Job:
    """A prediction that is ready to run.

    Attributes:
        predictor: Model and reader.
        pairs: Checked pairs of the split.
        out: Empty folder to write to.
        rules: Whose form the fields are to have.
        notes: What somebody who reads the scores has to know.
    """

    predictor: Predictor
    pairs: list[Pair]
    out: Path
    rules: Rules
    notes: list[str] = field(default_factory=list)


def prepare_prediction(config: Mapping[str, Any], overridden: Sequence[str]) -> Job:
    """Check everything, then build a predictor.

    Args:
        config: As ``configs/predict.yaml`` composes it, resolved.
        overridden: Keys that the command line gave. With a checkpoint they alone are taken from
            ``config``; the rest is as the checkpoint was trained.

    Raises:
        InputError: For whatever is wrong with options, checkpoint, data or the output folder.
    """
    check_extras(config["save"])
    rules = rules_named(config["format"], "format")
    method = prepare_method(config, overridden)
    base, split = method.config, config["split"]
    out = Path(config["out"] or _default_out(config))
    data: Dataset = build(base["data"], task=build(base["task"]))
    check_grid(data.release.task, rules)
    pairs = data.listed(split)
    raise_if_any(check_pairs(pairs, data.release.task, data.volumes, prealign=data.prealign))
    timed = replace(data, cache=None)  # from the file on
    notes = method.rebuilt.notes(pairs) if method.rebuilt is not None else []
    if method.refine is not None and method.refine.labels > 0:
        notes.append(_labels_given(data, pairs))
    predictor = method.predictor(timed.reader, data.as_given)
    fresh_folder(out, marker=CONFIG, overwrite=config["overwrite"])
    shown = {key: config[key] for key in OWN_KEYS} | {k: base[k] for k in ("task", "model", "data")}
    shown["refine"] = config.get("refine") or "none"
    with written_whole(out / CONFIG) as draft:
        draft.write_text(yaml.safe_dump(shown, sort_keys=False), encoding="utf-8")
    return Job(predictor, pairs, out, rules, notes)


def _labels_given(data: Dataset, pairs: Sequence[Pair]) -> str:
    """Return how many pairs have labels that the refinement may read; refuse if none has."""
    given = [data.as_given(pair) for pair in pairs]
    n_both = sum(pair.fixed.labels is not None and pair.moving.labels is not None for pair in given)
    root = data.pseudo_labels.root
    if not n_both:
        raise InputError(
            Problem(
                where="refine.labels",
                what="has no labels to compare",
                expected="label maps of both scans, under the scans' names, in "
                "data.pseudo_labels.root=FOLDER; labels that pairs are scored with are never read",
                found=f"none for {len(pairs)} pairs in {root}" if root else "no such folder named",
                remedy="write them with a segmentation tool, or leave refine.labels at 0",
            )
        )
    return f"labels from {root} were compared in {n_both} of {len(pairs)} pairs"


def _default_out(config: Mapping[str, Any]) -> Path:
    if config["ckpt"] is not None:
        named = Path(config["ckpt"])
        return (named if named.is_dir() else named.parent) / f"predict_{config['split']}"
    return Path("out") / f"{name_of(config['model'])}_{name_of(config['task'])}_{config['split']}"
