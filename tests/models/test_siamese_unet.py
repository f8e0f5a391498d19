from collections.abc import Callable
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch import nn

from l2reg.config.build import build
from l2reg.config.presets import config_dir
from l2reg.models.siamese_unet import SiameseUNet

Batches = Callable[..., dict[str, torch.Tensor]]
Awake = Callable[[nn.Module], nn.Module]


def small_siamese(**changes: Any) -> SiameseUNet:
    options = {"encoder": [4, 6, 8], "convs_per_level": [1, 2], "merge": "subtract",
               "negative_slope": 0.0, "residual": False, "segmentation_labels": None,
               "head": "gradient", "grid": "half",
               **changes}  # fmt: skip
    torch.manual_seed(0)
    return SiameseUNet(**options)


def test_the_published_network_has_its_published_size() -> None:
    """30,823,311 with one channel (hippocampus); abdomen's 30,825,039 has three CT windows."""
    model = small_siamese(encoder=[32, 64, 128, 256, 512], convs_per_level=[1, 2, 3, 2])
    assert sum(p.numel() for p in model.parameters()) == 30_823_311
    first_weight = model.enter.first[0].weight
    assert 30_823_311 + 2 * first_weight.numel() == 30_825_039
    deep = sum(p.numel() for p in model.level_heads.parameters())
    assert deep == 77_772


@pytest.mark.parametrize("experiment", ["estienne_abdomen", "estienne_hippocampus"])
def test_the_experiments_are_the_published_network(experiment: str) -> None:
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        config = compose("train", overrides=[f"experiment={experiment}", "run_dir=unused"])
    plain: Any = OmegaConf.to_container(config, resolve=True)
    assert sum(p.numel() for p in build(plain["model"]).parameters()) == 30_823_311
    assert plain["scheduler"]["min_factor"] == 1.0
    assert plain["loss"]["terms"]["smoothness"]["_target_"].endswith("GradientSparsity")


@pytest.mark.parametrize("merge", ["subtract", "concat", "sum"])
@pytest.mark.parametrize("residual", [False, True])
def test_every_level_of_the_decoder_has_a_field_in_training(
    merge: str, residual: bool, batch: Batches, awake: Awake
) -> None:
    model = awake(small_siamese(merge=merge, residual=residual)).train()
    prediction = model(batch(13, 16, 22, pairs=2))
    assert [tuple(level.disp.shape[2:]) for level in prediction.levels] == [(7, 8, 11), (4, 4, 6)]
    assert all(level.gradient is not None for level in prediction.levels)
    assert all(level.disp.any() for level in prediction.levels)


def test_a_subtracting_network_sees_no_difference_between_equal_scans(
    batch: Batches, awake: Awake
) -> None:
    model = awake(small_siamese()).eval()
    first, second = batch(12, 16, 20), batch(12, 16, 20)
    with_itself = [model({"fixed": b["fixed"], "moving": b["fixed"]}).disp for b in (first, second)]
    torch.testing.assert_close(*with_itself)
    model = awake(small_siamese(merge="sum")).eval()
    swapped = {"fixed": first["moving"], "moving": first["fixed"]}
    torch.testing.assert_close(model(first).disp, model(swapped).disp)


def test_a_second_decoder_segments_both_scans_in_training(batch: Batches) -> None:
    """It adds its own weights and does not change the field."""
    plain, segmenting = small_siamese(), small_siamese(segmentation_labels=3)
    added = {name for name, _ in segmenting.named_parameters()} - set(plain.state_dict())
    assert {name.split(".")[0] for name in added} == {"segmenter"}
    pairs = batch(13, 16, 22, pairs=2)
    segmentations = segmenting.train()(pairs).segmentations
    assert [tuple(logits.shape) for logits in segmentations] == [(2, 4, 13, 16, 22)] * 2
    swapped = {"fixed": pairs["moving"], "moving": pairs["fixed"]}
    torch.testing.assert_close(segmentations, segmenting(swapped).segmentations[::-1])
    assert segmenting.eval()(pairs).segmentations is None
    torch.testing.assert_close(segmenting(pairs).disp, plain.eval()(pairs).disp)


def test_options_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"(?s)convs_per_level must have one entry.*\[1\]"):
        small_siamese(convs_per_level=[1])
    with pytest.raises(ValueError, match="subtract, concat, sum, got 'add'"):
        small_siamese(merge="add")
