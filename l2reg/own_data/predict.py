"""Prediction of one's own pairs: a folder for each as of ``l2reg register``, and a table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml
from tqdm import tqdm

from l2reg.config.build import build
from l2reg.data.pairs import Pair
from l2reg.inference.predict_split import CONFIG, default_out
from l2reg.inference.predictor import Predictor
from l2reg.inference.prepare import OWN_KEYS, prepare_method
from l2reg.io.files import atomic_write, load_json
from l2reg.io.output_folders import OutputKind, claim_output_folder
from l2reg.own_data.channels import channel_problems, compare_all_channels
from l2reg.own_data.check import own_problems, own_warnings
from l2reg.own_data.dataset import OwnDataset
from l2reg.own_data.own_table import OwnRow
from l2reg.own_data.pair_outputs import write_pair
from l2reg.problems import Problem, group_by_kind, raise_if_any
from l2reg.registration.register_table import (
    RESULTS,
    TableSummary,
    error_text,
    result_line,
    result_row,
    summarise,
    write_results,
)
from l2reg.registration.result import EXTRAS, Extra, output_files
from l2reg.registration.result_page import write_result_page
from l2reg.registration.table_page import PAGE, write_table_page
from l2reg.reporting.page import provenance


@dataclass(frozen=True)
class OwnPrediction:
    """A prediction of one's own pairs that is ready to run.

    Attributes:
        predictor: The method and the readers of pairs.
        data: The data set.
        rows: The pairs, already checked.
        out: An empty folder, held for this process, to write to.
        save: Extra files of each pair.
        method: What the reports say about the method.
        notes: Notes on how to read the scores.
    """

    predictor: Predictor
    data: OwnDataset
    rows: Sequence[OwnRow]
    out: Path
    save: Sequence[Extra]
    method: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()


def prepare_own_prediction(config: Mapping[str, Any], overrides: Sequence[str]) -> OwnPrediction:
    """Check options, data and output folder, then build a predictor.

    Args:
        config: The resolved config that ``configs/predict.yaml`` composes.
        overrides: The keys given on the command line, see ``prepare_prediction``.

    Raises:
        InputError: If options, checkpoint, data or the output folder are incorrect.
    """
    raise_if_any(_option_problems(config, overrides))
    prepared = prepare_method(config, overrides)
    base = prepared.config
    task = build(base["task"], "task", base["trust"])
    data: OwnDataset = build(base["data"], "data", base["trust"], task=task)
    rows = data.pair_rows(config["split"])
    n_channels = data.table.n_channels
    if prepared.trained is not None:
        raise_if_any(channel_problems(data.table, base["model"]))
    raise_if_any(own_problems(data, rows))
    for warning in group_by_kind(own_warnings(data, rows)):
        tqdm.write(f"warning: {warning}")
    out = Path(config["out"] or default_out(config))
    trained = prepared.trained
    pairs = [data.pair(row) for row in rows]
    inputs = [*data.inputs, *([trained.path] if trained else [])]
    claim_output_folder(out, OutputKind.PREDICTION, overwrite=config["overwrite"], inputs=inputs)
    used = {key: config[key] for key in OWN_KEYS} | {k: base[k] for k in ("task", "model", "data")}
    used["refine"] = config.get("refine") or "none"
    with atomic_write(out / CONFIG) as temporary:
        temporary.write_text(yaml.safe_dump(used, sort_keys=False), encoding="utf-8")
    return OwnPrediction(
        Predictor(
            compare_all_channels(prepared.method, n_channels), replace(data, cache=None).reader
        ),
        data,
        rows,
        out,
        config["save"],
        {"ckpt": config["ckpt"], "model": base["model"]["_target_"], "refine": used["refine"]},
        trained.leakage_notes(pairs) if trained else [],
    )


def predict_own(job: OwnPrediction, details: Mapping[str, str] | None = None) -> TableSummary:
    """Register the pairs, each into a folder of its name, and write ``results.csv``.

    A pair that fails costs no other one.

    Args:
        job: The prediction.
        details: How the results are made, see ``register_table``.

    Raises:
        InputError: If the table of results cannot be written.
    """
    for note in job.notes:
        tqdm.write(f"note: {note}")
    job.predictor.warm_up()
    results: list[dict[str, Any]] = []
    for number, row in enumerate(job.rows, start=1):
        report = _register(job, row, job.data.pair(row), details)
        fixed, moving = (scan.files for scan in row.scans)
        results.append(result_row(row.name, fixed, moving, report))
        write_results(job.out / RESULTS, results)
        tqdm.write(f"[{number}/{len(job.rows)}] {row.name}: {result_line(results[-1])}")
    if details is not None:
        made = provenance(**details, notes="; ".join(job.notes))
        write_table_page(job.out / PAGE, f"Pairs of {job.out.name}", results, made)
    return summarise(results)


def _register(
    job: OwnPrediction, row: OwnRow, pair: Pair, details: Mapping[str, str] | None
) -> Mapping[str, Any]:
    """Return the report of a pair, or the error that prevented it."""
    files = output_files(job.out / row.name, job.save)
    reader = replace(job.data, cache=None).reader("full")
    try:
        result = write_pair(job.predictor, reader, row, pair, files, job.method)
        if details is not None:
            page, heading = job.out / row.name / PAGE, f"Pair {row.name}"
            fixed, moving = (scan.files for scan in row.scans)
            write_result_page(page, result, fixed, moving, heading=heading, **details)
        report: Mapping[str, Any] = load_json(files.report)
    except Exception as error:  # of any kind: the other pairs must still be registered
        return {"error": error_text(error)}
    return report


def _option_problems(config: Mapping[str, Any], overrides: Sequence[str]) -> list[Problem]:
    """Return the faults of options that mean something else, or nothing, for one's own data."""
    problems = []
    if unknown := sorted(set(config["save"]) - set(EXTRAS)):
        problems.append(
            Problem(
                where=f"save={list(config['save'])}",
                what="names an unknown output",
                expected=f"some of {', '.join(EXTRAS)}; the warped scan and the transform are "
                "always written",
                found=f"{unknown}",
                remedy=f"save=[{','.join(EXTRAS)}]",
            )
        )
    if "rules" in overrides:
        problems.append(
            Problem(
                where=f"rules={config['rules']}",
                what="is for submissions to the challenge",
                expected="no rules: a transform in mm is written for each pair",
                found=f"{config['rules']}",
                remedy="leave it out",
            )
        )
    return problems
