"""Presets: the YAML files of ``configs/``, read without Hydra."""

from pathlib import Path
from typing import Any

import yaml

from l2reg.problems import InputError, Problem, suggest

CHALLENGE_TASKS = ("abdomen", "lung", "oasis")  # in the order of task_01, task_02, task_03


def config_dir() -> Path:
    """Return the folder of the YAML files: in the package of a wheel, beside it in a checkout."""
    package = Path(__file__).parents[1]
    packaged = package / "configs"
    return packaged if packaged.is_dir() else package.parent / "configs"


def preset_names(group: str) -> list[str]:
    """Return the names that ``<group>=<name>`` can take."""
    return sorted(path.stem for path in (config_dir() / group).glob("*.yaml"))


def load_preset(group: str, name: str) -> dict[str, Any]:
    """Return the config node of ``configs/<group>/<name>.yaml``, as a plain dict.

    This is for commands that need a single node, such as ``l2reg check``; nothing is composed.

    Raises:
        InputError: If there is no such file; the message lists the existing ones.
    """
    path = config_dir() / group / f"{name}.yaml"
    known = preset_names(group)
    if name not in known:
        raise InputError(
            Problem(
                where=f"{group}={name}",
                what=f"is not a known {group}",
                expected=", ".join(known),
                found=repr(name),
                remedy=suggest(name, known),
            )
        )
    content: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    node: dict[str, Any] = content.get(group, content)  # task files set keys at the top level
    return node
