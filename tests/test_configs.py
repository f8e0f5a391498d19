"""Every YAML file says exactly what its constructor takes, and every combination composes."""

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.errors import ConfigCompositionException, MissingConfigException
from omegaconf import OmegaConf

from l2reg.config.allowed import SLOTS, locate
from l2reg.config.build import build
from l2reg.config.presets import load_preset
from l2reg.data.task import Task
from l2reg.optimisation.refinement import Refinement
from l2reg.training.trainer import TrainerSettings

CONFIGS = Path(__file__).parents[1] / "configs"
FILES = sorted(CONFIGS.rglob("*.yaml"))


def names(group: str) -> list[str]:
    return sorted(path.stem for path in (CONFIGS / group).glob("[!_]*.yaml"))


TASKS = [name for name in names("task") if name != "mixed"]  # which is none by itself


def composed(script: str, *overrides: str) -> dict[str, Any]:
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        config = compose(script, overrides=list(overrides), return_hydra_config=True)
    HydraConfig.instance().set_config(config)  # run_dir and init_from ask it for what was chosen
    own = OmegaConf.masked_copy(config, [key for key in config if key != "hydra"])
    plain: dict[str, Any] = OmegaConf.to_container(own, resolve=True)  # type: ignore[assignment]
    return plain


def targets(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        if "_target_" in node:
            yield node
        for child in node.values():
            yield from targets(child)
    elif isinstance(node, list):
        for child in node:
            yield from targets(child)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(CONFIGS)))
def test_keys_are_the_constructors_arguments(path: Path) -> None:
    for node in targets(yaml.safe_load(path.read_text())):
        known = set(inspect.signature(locate(node["_target_"])).parameters)
        assert set(node) - {"_target_"} <= known, f"unknown keys in {path}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(CONFIGS)))
def test_floats_carry_a_decimal_point(path: Path) -> None:
    for token in path.read_text().replace("[", " ").replace("]", " ").replace(",", " ").split():
        looks_like_exponent = token[0].isdigit() and "e-" in token
        assert not looks_like_exponent or "." in token, f"YAML reads {token} as a string in {path}"


@pytest.mark.parametrize("model", names("model"))
@pytest.mark.parametrize("task", TASKS)
def test_every_task_and_model_compose_and_build(
    task: str, model: str, descriptor_run: Path
) -> None:
    config = composed("train", f"task={task}", f"model={model}")
    if model == "convex_learned":  # whose weights are the user's
        config["model"]["features"]["learned"]["weights"] = str(descriptor_run)
    build(config["model"])
    build(config["loss"])
    assert isinstance(build(config["trainer"]), TrainerSettings)
    if task not in ("phantom", "own"):  # which make their data, or are planned from them
        assert isinstance(build(config["task"]), Task)


@pytest.mark.parametrize("task", TASKS)
def test_convex_brings_a_refinement_made_for_the_task_which_can_be_left_out(task: str) -> None:
    refine = build(composed("predict", f"task={task}", "model=convex")["refine"])
    assert isinstance(refine, Refinement)
    assert not composed("predict", f"task={task}", "model=convex", "refine=none").get("refine")
    assert not composed("predict", f"task={task}", "model=zero").get("refine")
    coarse = ("model=convex_learned", "refine.coarse_features=${model.features}")
    learned = composed("predict", f"task={task}", *coarse)
    assert learned["refine"]["coarse_features"] == learned["model"]["features"]
    asked = composed("predict", f"task={task}", "model=zero", "refine=gauss_newton")
    assert build(asked["refine"]).levels == refine.levels


@pytest.mark.parametrize("experiment", names("experiment"))
def test_every_experiment_composes(experiment: str) -> None:
    config = composed("train", f"experiment={experiment}")
    without_task = {"descriptors", "gunnarsson_pretrain", "gunnarsson_train"}  # or with several
    assert (config.get("task") is None) == (experiment in without_task)
    build(config["model"])
    build(config["loss"])


def test_no_group_of_files_takes_the_name_of_the_plan_of_a_run() -> None:
    assert composed("train", "plan=true")["plan"] is True


def test_a_mixed_run_names_its_tasks_and_has_none_of_its_own() -> None:
    config = composed("train", "task=mixed", "mixed.only=[lung,oasis]")
    assert config["mixed"] == {"only": ["lung", "oasis"]}
    assert config.get("task") is None


def test_every_stage_starts_from_the_one_before() -> None:
    chain = [composed("train", f"experiment={stage}", "task=abdomen")
             for stage in ("pretrain", "noisy_labels", "finetune")]  # fmt: skip
    assert [stage["init_from"] for stage in chain] == [None, *(s["run_dir"] for s in chain[:2])]
    assert [stage["run_dir"] for stage in chain] == [
        f"runs/abdomen_unet_{stage}" for stage in ("pretrain", "noisy_labels", "finetune")
    ]
    assert chain[0]["loss"]["weights"]["dice"] == 0
    assert chain[1]["data"]["pseudo_labels"]["root"] == "pseudo_labels/abdomen"
    assert chain[2]["data"]["pseudo_labels"]["root"] is None
    assert [stage["loss"]["weights"]["dice"] for stage in chain[1:]] == [1.0, 1.0]


def test_the_stages_of_gunnarsson_keep_their_losses_in_every_task() -> None:
    stages = ("gunnarsson_pretrain", "gunnarsson_train", "gunnarsson_finetune")
    chain = [composed("train", f"experiment={stage}", "task=abdomen") for stage in stages]
    assert [stage["init_from"] for stage in chain] == [None, *(s["run_dir"] for s in chain[:2])]
    for stage, smoothness in zip(chain, (2.0, 10.0, 1.0), strict=True):
        weights = {name: weight for name, weight in stage["loss"]["weights"].items() if weight > 0}
        assert weights == {"similarity": 5.0, "smoothness": smoothness, "dice": 5.0}
        objective = build(stage["loss"])
        assert type(objective.terms["similarity"]).__name__ == "LocalNCC"
        assert not objective.terms["dice"].deep_supervision
        assert stage["model"] == load_preset("model", "pyramid_gunnarsson")
        build(stage["data"], task=build(stage["task"]))


@pytest.mark.parametrize(
    ("task", "similarity", "taught_by", "symmetric"),
    [
        ("abdomen", "mind.MIND", {"dice"}, False),
        ("lung", "mind.MIND", {"keypoints"}, False),
        ("oasis", "local_ncc.LocalNCC", {"dice"}, True),
    ],
)
def test_every_task_brings_the_recipe_that_does_well_on_it(
    task: str, similarity: str, taught_by: set[str], symmetric: bool
) -> None:
    config = composed("train", f"task={task}")
    loss = config["loss"]
    assert loss["terms"]["similarity"]["_target_"].endswith(similarity)
    weights = {name for name in ("dice", "keypoints") if loss["weights"][name] > 0}
    assert weights == taught_by
    assert config["trainer"]["symmetric"] == symmetric
    assert config["model"]["grid"] == "half"


def test_a_freeze_schedule_can_be_given_on_the_command_line() -> None:
    config = composed("train", "trainer.freeze={down*: 500, up.0*: 3}")
    assert build(config["trainer"]).freeze == {"down*": 500, "up.0*": 3}


def test_a_task_brings_its_loss_and_the_command_line_wins_over_it() -> None:
    def similarity(*overrides: str) -> str:
        config = composed("train", *overrides)
        return str(config["loss"]["terms"]["similarity"]["_target_"])

    assert similarity("task=lung") == "l2reg.losses.mind.MIND"
    assert similarity("task=lung", "loss=mse") == "l2reg.losses.mse.MSE"
    assert similarity("loss=mse", "task=lung") == "l2reg.losses.mse.MSE"


def test_later_groups_win_and_the_command_line_wins_over_all(tmp_path: Path) -> None:
    """Refine, model, loss, ..., task, task_model, task_refine, experiment, command line."""
    copy = tmp_path / "configs"
    for path in FILES:
        target = copy / path.relative_to(CONFIGS)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(path.read_text())
    (copy / "task_model/oasis_unet.yaml").write_text(
        "# @package _global_\nmodel: {final: [8]}\nloss: {weights: {dice: 2.0}}\n"
    )
    (copy / "experiment/e.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /task: oasis\n  - override /loss: mind\n"
        "trainer: {max_steps: 3}\nloss: {weights: {dice: 3.0}}\n"
    )
    with initialize_config_dir(str(copy), version_base="1.3"):
        plain = compose("train", overrides=["task=oasis"])
        experiment = compose("train", overrides=["experiment=e"])
        last = compose("train", overrides=["experiment=e", "loss.weights.dice=4", "loss=lncc"])
    assert (plain.model.final, plain.loss.weights.dice) == ([8], 2.0)
    assert experiment.task.name == "oasis"
    assert experiment.loss.terms.similarity._target_ == "l2reg.losses.mind.MIND"
    assert (experiment.trainer.max_steps, experiment.loss.weights.dice) == (3, 3.0)
    assert last.loss.weights.dice == 4
    assert last.loss.terms.similarity._target_ == "l2reg.losses.local_ncc.LocalNCC"


def slots(node: Any, slot: str | None = None) -> Iterator[tuple[str | None, str]]:
    """Yield every target with the slot that ``build`` knows it by."""
    if isinstance(node, dict) and "_target_" in node:
        yield slot, node["_target_"]
        for key, value in node.items():
            yield from slots(value, key)
    elif isinstance(node, dict):
        for key, value in node.items():
            yield from slots(value, slot or key)
    elif isinstance(node, list):
        for value in node:
            yield from slots(value, slot)


def test_a_config_may_name_what_the_configs_name_and_optimisers_of_pytorch() -> None:
    nodes: list[Any] = [load_preset("register", "default")]
    nodes += [composed("train", f"task={task}", "refine=gauss_newton") for task in TASKS]
    for group in ("model", "loss", "experiment", "optimizer", "scheduler", "trainer", "data"):
        others = [name for name in names(group) if (group, name) != ("data", "own")]  # of task=own
        nodes += [composed("train", f"{group}={name}") for name in others]
    used = {pair for node in nodes for pair in slots(node)}
    listed = {(slot, name) for slot, allowed in SLOTS.items() for name in allowed}
    assert used <= listed
    more = {name for _, name in listed} - {name for _, name in used}
    assert more == {f"torch.optim.{name}" for name in ("NAdam", "RAdam", "SGD")}


def test_the_default_task_is_the_phantom() -> None:
    assert composed("train")["task"]["_target_"] == "l2reg.phantom.make.phantom_task"


def test_predict_knows_neither_task_nor_model_by_itself() -> None:
    config = composed("predict")
    assert config.get("task") is None
    assert config.get("model") is None


@pytest.mark.parametrize(
    ("override", "error", "words"),
    [
        ("task=lnug", MissingConfigException, r"(?s)task/lnug.*abdomen.*lung.*oasis.*phantom"),
        ("model=unett", MissingConfigException, r"(?s)model/unett.*unet.*zero"),
        ("model.widht=3", ConfigCompositionException, r"model\.widht"),
    ],
)
def test_unknown_names_are_refused_with_those_there_are(
    override: str, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        composed("train", override)


def test_hydra_offers_nothing_that_cannot_be_chosen() -> None:
    """Its help and its errors list every file of a group, those with an underscore too."""
    assert not list(CONFIGS.glob("*/_*.yaml"))
