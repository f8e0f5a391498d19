from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from l2reg.config import config_dir

Composed = Callable[..., dict[str, Any]]


@pytest.fixture
def composed(phantoms: dict[str, Path]) -> Composed:
    """Compose a script's config for a tiny network on the phantoms that all tests share."""

    def made(script: str, *overrides: str, flavour: str = "lung") -> dict[str, Any]:
        with initialize_config_dir(str(config_dir()), version_base="1.3"):
            config = compose(script, overrides=[*overrides, "run_dir=run"])
        plain: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
        if (plain.get("task") or {}).get("flavour"):
            plain["task"] |= {"flavour": flavour, "pairs": 3, "root": str(phantoms[flavour])}
        return plain

    return made


@pytest.fixture
def tiny_run(composed: Composed) -> Composed:
    def made(*overrides: str, flavour: str = "lung") -> dict[str, Any]:
        small = ["model.encoder=[4,6]", "model.decoder=[6]", "model.final=[4]", "device=cpu"]
        few = ["trainer.max_steps=3", "trainer.validate_every=2", "trainer.picture_every=3"]
        return composed("train", *small, *few, *overrides, flavour=flavour)

    return made
