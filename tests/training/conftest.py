from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from l2reg.config.presets import config_dir

Composed = Callable[..., dict[str, Any]]


@pytest.fixture
def composed(phantoms: dict[str, Path]) -> Composed:
    """Compose a script's config for a tiny network on the phantoms that all tests share."""

    def made(script: str, *overrides: str, flavour: str = "lung") -> dict[str, Any]:
        with initialize_config_dir(str(config_dir()), version_base="1.3"):
            config = compose(
                script, overrides=[*overrides, "run_dir=run"], return_hydra_config=True
            )
        HydraConfig.instance().set_config(config)  # which init_from may ask for what was chosen
        own = OmegaConf.masked_copy(config, [key for key in config if key != "hydra"])
        plain: dict[str, Any] = OmegaConf.to_container(own, resolve=True)  # type: ignore[assignment]
        if (plain.get("task") or {}).get("flavour"):
            plain["task"] |= {"flavour": flavour, "pairs": 3, "root": str(phantoms[flavour])}
        return plain

    return made


@pytest.fixture
def mixed_run(tiny_run: Composed) -> Composed:
    """Compose a run of mixed phantoms, ``mixed.tasks`` named as their flavours."""

    def made(
        *overrides: str, flavours: Sequence[str] = ("lung", "abdomen", "oasis")
    ) -> dict[str, Any]:
        config = tiny_run(*overrides)
        alone = {flavour: tiny_run(*overrides, flavour=flavour) for flavour in flavours}
        tasks = {name: {k: node.pop(k) for k in ("task", "data", "loss")}
                 for name, node in alone.items()}  # fmt: skip
        own = {key: value for key, value in config.items() if key not in ("task", "data", "loss")}
        return {**own, "mixed": {"only": list(flavours), "tasks": tasks}}

    return made


@pytest.fixture
def tiny_run(composed: Composed) -> Composed:
    def made(*overrides: str, flavour: str = "lung") -> dict[str, Any]:
        small = ["model.encoder=[4,6]", "model.decoder=[6]", "model.final=[4]", "device=cpu"]
        few = ["trainer.max_steps=3", "trainer.validate_every=2", "trainer.picture_every=3"]
        return composed("train", *small, *few, *overrides, flavour=flavour)

    return made
