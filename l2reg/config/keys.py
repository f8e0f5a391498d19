"""Top-level keys of the scripts: unknown ones are refused, missing ones asked for."""

from collections.abc import Mapping
from typing import Any

import yaml

from l2reg.config.presets import config_dir
from l2reg.problems import InputError, Problem, suggest


def check_keys(name: str, config: Mapping[str, Any]) -> None:
    """Refuse top-level keys that nobody reads, which a ``+key=value`` would add.

    Args:
        name: Stem of the script's own YAML file.
        config: What was composed.

    Raises:
        InputError: If there is such a key.
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
                what=f"is no key of {name}.py",
                expected=expected,
                found=key,
                remedy=remedy,
            )
        )


def require_key(name: str, config: Mapping[str, Any], key: str, example: str) -> None:
    """Refuse a config without ``key``, which ``name``.py cannot do without."""
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
