"""Names are the field's: none of the words that the glossary replaced names anything any more."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
MODULES = sorted((ROOT / "l2reg").rglob("*.py"))

# Functions, classes and arguments, whatever room they are in
REPLACED = {
    "most",
    "least",
    "longest",
    "rounds",
    "here",
    "there",
    "back",
    "agreeing",
    "outlying",
    "searched",
    "matching_costs",
    "tried",
    "bound",
    "_chosen",
    "_parabola",
    "_agreed",
    "Stiffness",
    "Steps",
    "_bending",
    "_diffusion",
    "_solved",
    "slopes",
    "misfit",
    "pull",
    "_matched",
    "_View",
    "_in_cubes",
    "Correspondences",
    "Found",
    "Matches",
    "Features",
    "MatchedIntensity",
    "Refine",
    "unfolded",
    "smallest_determinant",
    "voxel_grid",
    "along_axes",
    "best_samples",
    "zoom_matrix",
    "resized",
    "halved",
    "fitting",
    "Enter",
    "Estimator",
    "Context",
    "Level",
    "comparable",
    "round_trip",
    "of_levels",
    "coarser",
    "Grid",
    "voxel_mm",
    "Opened",
    "listed",
    "scored_images",
    "_taught",
    "as_given",
    "Files",
    "Truth",
    "load_truth",
    "can_be_scored",
    "thorough",
    "thirty",
    "readable",
    "Losses",
    "rank_sum_losses",
    "readings",
    "doubts",
    "doubtful_reading",
    "Checked",
    "Origin",
    "Rebuilt",
    "rebuild",
    "chosen_on",
    "Part",
    "open_parts",
    "Settings",
    "Freezing",
    "resting",
    "_upcoming",
    "Served",
    "Service",
    "made_up_pair",
    "Job",
    "Predicted",
    "Written",
    "register_files",
    "told_plainly",
    "written_whole",
    "fresh_folder",
    "writable_folder",
    "keep_freed_memory",
    "pick_device",
    "read_node",
    "names_in",
    "check_given",
    "_laid_over",
    "overridden",
    "tasks_of",
    "of_one_task",
    "name_of",
    "draft",
}
ARGUMENTS = {"notes", "given", "seen", "choice", "bound"}  # fine as names of variables
KEYS = {
    "format", "solver", "tolerance", "smoothing", "find", "most", "distance", "patch", "outlying",
    "consistent", "longest", "rounds", "agreeing", "extra", "shift_mm", "slope", "joint",
    "convolutions", "reach", "balance", "floor",
}  # fmt: skip


def names(path: Path) -> Iterator[str]:
    """Yield the names of functions, classes and arguments, and of what a class holds."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        if isinstance(node, ast.FunctionDef):
            arguments = node.args
            for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
                yield argument.arg
                assert argument.arg not in ARGUMENTS, f"{path}:{node.lineno} {argument.arg}"
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id


def is_property(node: ast.FunctionDef) -> bool:
    return any(isinstance(d, ast.Name) and "property" in d.id for d in node.decorator_list)


def keys(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield str(key)
            yield from keys(value)
    elif isinstance(node, list):
        for value in node:
            yield from keys(value)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_name_is_from_the_left_column_of_the_glossary(path: Path) -> None:
    assert not sorted(set(names(path)) & REPLACED)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_function_is_a_verb_or_what_it_returns_never_a_participle(path: Path) -> None:
    functions = [
        node.name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and not is_property(node)
    ]
    questions = ("is_", "_is_", "has_", "_has_")
    participles = [
        name
        for name in functions
        if name.split("_")[-1].endswith(("ed", "found")) and not name.startswith(questions)
    ]
    assert not participles


def test_no_key_is_from_the_left_column() -> None:
    for path in sorted((ROOT / "configs").rglob("*.yaml")):
        left = set(keys(yaml.safe_load(path.read_text()))) & KEYS
        assert not left, f"{path}: {left}"
