"""Checks of the scripts' top-level config keys: unknown and missing ones are errors."""

from collections.abc import Mapping
from typing import Any

import yaml

from l2reg.config.presets import config_dir
from l2reg.problems import InputError, Problem, suggest


def check_keys(name: str, config: Mapping[str, Any]) -> None:
    """Check that a script's config has no unknown top-level key, as ``+key=value`` would add.

    Args:
        name: Name of the script and of its YAML file, without suffix.
        config: Composed config.

    Raises:
        InputError: If there is an unknown key.
    """
    known: set[str] = set()
    for stem in {"train", name}:
        content = yaml.safe_load((config_dir() / f"{stem}.yaml").read_text(encoding="utf-8"))
        known |= set(content)
        for entry in content["defaults"]:
            known |= {group.split()[-1] for group in entry} if isinstance(entry, dict) else set()
    for key in sorted(set(config) - known):
        expected = ", ".join(sorted(known - {"defaults", "hydra"}))
        remedy = suggest(key, known)
        raise InputError(
            Problem(
                where=f"{key}=...",
                what=f"is not a key of {name}.py",
                expected=expected,
                found=key,
                remedy=remedy,
            )
        )


def require_key(name: str, config: Mapping[str, Any], key: str, example: str) -> None:
    """Check that a script's config has a value for a key that the script needs.

    Args:
        name: Name of the script, without suffix.
        config: Composed config.
        key: Top-level key that the script needs.
        example: Argument with the key, for the message.

    Raises:
        InputError: If the key is missing or null.
    """
    if config.get(key) is None:
        remedy = f"python {name}.py {example}"
        raise InputError(
            Problem(
                where=f"{name}.py",
                what=f"needs {key}=",
                expected=example,
                found=f"no {key}",
                remedy=remedy,
            )
        )
