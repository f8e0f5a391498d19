"""Field of a pair whose start is known, found by a method that suits the scans, and its verdict."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from l2reg.batch import Batch, to_device
from l2reg.features.channel_features import ChannelFeatures
from l2reg.features.extractor import comparable_region
from l2reg.features.intensity_and_gradient import IntensityAndGradient
from l2reg.geometry.resize import resize_field
from l2reg.inference.method import Method
from l2reg.inference.prepare import task_refinement, training_free_method
from l2reg.models.zero import Zero
from l2reg.optimisation.convex import Convex
from l2reg.optimisation.refinement import Refinement
from l2reg.registration.channels import ChannelPair
from l2reg.registration.modality import word_of
from l2reg.registration.small_scans import SmallScans
from l2reg.registration.start import Start
from l2reg.registration.verdict import Judge, Outcome, Verdict
from l2reg.registration.working_grid import on_grids
from l2reg.shapes import Field, Mask, Shape3

ANY_CONTRAST = "abdomen"  # preset for any two contrasts
_MAX_GRADIENT_MM = 3.0


@dataclass(frozen=True)
class StartedPair:
    """Two scans that are ready to be registered.

    Attributes:
        small: The scans at low resolution.
        working: The pair on the working grid, after the start.
        start: The start, from fixed to moving voxels.
        shape: Shape of the fixed scan.
        predicted: What a network predicts, on the working grid; ``None`` without a network.
    """

    small: SmallScans
    working: Batch
    start: Start
    shape: Shape3
    predicted: Field | None


def select_method(preset: str, device: torch.device, start: Start, *, refine: bool) -> Method:
    """Return the method without training of a preset; after a given field it searches nothing.

    Args:
        preset: Name of the preset.
        device: Device to run on.
        start: What the registration starts from.
        refine: Whether the field is refined.
    """
    method = training_free_method(preset, device)
    if start.disp is not None:
        method = replace(method, model=Zero("half"))
    return method if refine else replace(method, refinement=None)


def suit_resolution(method: Method, spacing_mm: Sequence[float]) -> Method:
    """Return a method that compares no gradients between voxels of more than 3 mm.

    These are longer than the cortex is thick: such a gradient tells how a scan was sampled, not
    where tissues meet.

    Args:
        method: Method of a preset.
        spacing_mm: Voxel size of the working grid, in mm.
    """
    refinement = method.refinement
    if refinement is None or max(spacing_mm) <= _MAX_GRADIENT_MM:
        return method
    if not isinstance(refinement.features, IntensityAndGradient):
        return method
    intensities = replace(refinement.features, gradient_weight=0.0)
    return replace(method, refinement=replace(refinement, features=intensities))


def compare_channels(method: Method, channels: Sequence[ChannelPair]) -> Method:
    """Return a method that compares further channels as well, each pair by features of its own.

    These are the method's, or those for any two contrasts where only one of the pair is a CT.
    """
    model, refinement = method.model, method.refinement
    if not channels:
        return method
    if isinstance(model, Convex):
        model.features = ChannelFeatures([model.features] * (1 + len(channels)))
    if refinement is not None:
        others = [
            refinement.features
            if fixed.kind == moving.kind
            else task_refinement(ANY_CONTRAST).features
            for fixed, moving in channels
        ]
        refinement = replace(refinement, features=ChannelFeatures([refinement.features, *others]))
    return replace(method, model=model, refinement=refinement)


def register_suitably(
    pair: StartedPair, method: Method, preset: str, judge: Judge
) -> tuple[Outcome, Verdict]:
    """Register a pair; with the method for any two contrasts if its own leaves it less alike.

    That one is tried where the local contrasts do not match well after registration.
    """
    outcome = _solve(pair, method)
    same_contrast = preset != ANY_CONTRAST
    verdict = judge(pair.small, outcome, same_contrast=same_contrast)
    doubtful = same_contrast and verdict.contrast_after < judge.good_contrast
    if not (verdict.unsuited or doubtful) or method.refinement is None:
        return outcome, verdict
    suited = replace(
        task_refinement(ANY_CONTRAST),
        label_weight=method.refinement.label_weight,
        points=method.refinement.points,
    )
    if isinstance(method.refinement.features, ChannelFeatures):
        n_channels = len(method.refinement.features.extractors)
        suited = replace(suited, features=ChannelFeatures([suited.features] * n_channels))
    other = _solve(pair, replace(method, refinement=suited))
    other_verdict = judge(pair.small, other, same_contrast=False)
    if other_verdict.similarity_after <= verdict.similarity_after:
        return outcome, verdict
    change = "made the scans less alike" if verdict.unsuited else "brought the scans less together"
    flag = f"--like {word_of(preset)} {change}: --like {ANY_CONTRAST} is used instead"
    return other, replace(other_verdict, flags=(flag, *other_verdict.flags))


def _solve(pair: StartedPair, method: Method) -> Outcome:
    """Register a pair with a method."""
    batches = [to_device(b, method.device) for b in on_grids(pair.working, method.grids)]
    i, j, k = pair.working["fixed"].shape[2:]
    if pair.predicted is None:
        disp = method.solve(batches)
    elif method.refinement is None:
        disp = pair.predicted
    else:
        disp = method.refinement(batches[-1], pair.predicted.to(method.device))
    disp = resize_field(disp, (i, j, k)).cpu()
    total = pair.start.after(resize_field(disp, pair.shape))
    if pair.start.disp is not None:
        disp = resize_field(pair.start.beyond_map(total), (i, j, k))
    searched = method.model if pair.predicted is None else None
    reach_mm = _reach_mm(searched, batches[0])
    compared = _compares(method.refinement or searched, batches[-1]["overlap"])
    return Outcome(pair.start, total, disp, pair.working, reach_mm, compared)


def _compares(compared_by: Refinement | torch.nn.Module | None, overlap: Mask) -> bool:
    """Tell whether features can be compared anywhere in an overlap; a network needs none."""
    if not isinstance(compared_by, Refinement | Convex):
        return True
    return bool(comparable_region(overlap, compared_by.features).any())


def _reach_mm(model: torch.nn.Module | None, batch: Batch) -> tuple[float, float, float]:
    if not isinstance(model, Convex):
        return (torch.inf,) * 3
    i_mm, j_mm, k_mm = (batch["spacing_mm"][0].cpu() * model.capture_range).tolist()
    return (i_mm, j_mm, k_mm)
