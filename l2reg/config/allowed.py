"""Allow-list of the classes that a config may name: nothing else is imported or called.

A config may come from a stranger, inside a checkpoint. ``docs/decisions/0011`` has the reasons.
"""

import importlib
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from l2reg.problems import InputError, Problem, suggest

_FEATURES = (
    "l2reg.features.histogram_matching.HistogramMatching",
    "l2reg.features.intensity_and_gradient.IntensityAndGradient",
    "l2reg.features.local_contrast.LocalContrast",
    "l2reg.features.mind.Mind",
)
_MIND = ("l2reg.features.mind.Mind",)
_LEARNED = "l2reg.checkpoints.descriptor_weights.learned_features"
_WITH_LEARNED = (*_FEATURES, _LEARNED, "l2reg.features.learned.Joint")
_BLOCK_MATCHING = ("l2reg.optimisation.block_matching.BlockMatching",)
_SCAN_FILES = ("l2reg.data.task.ScanFiles",)

# By slot: the key of a config, or the argument of a class, that the object is for. A list or a dict
# of objects is one slot.
SLOTS: Mapping[str, tuple[str, ...]] = {
    "model": (
        "l2reg.models.backbone.Backbone",
        "l2reg.models.descriptors.DescriptorNetwork",
        "l2reg.models.lapirn.LapIRN",
        "l2reg.models.pyramid.Pyramid",
        "l2reg.models.siamese_unet.SiameseUNet",
        "l2reg.models.unet.UNet",
        "l2reg.models.sitreg.SITReg",
        "l2reg.models.vfa.VFA",
        "l2reg.models.zero.Zero",
        "l2reg.optimisation.convex.Convex",
    ),
    "network": ("monai.networks.nets.SegResNet",),
    "intensities": (
        "l2reg.features.histogram_matching.HistogramMatching",
        "l2reg.features.smooth_gain.SmoothGain",
    ),
    "loss": (
        "l2reg.losses.descriptors.DescriptorContrast",
        "l2reg.losses.objective.Objective",
    ),
    "terms": (
        "l2reg.losses.bending.Bending",
        "l2reg.losses.dice.Dice",
        "l2reg.losses.diffusion.Diffusion",
        "l2reg.losses.folding.Folding",
        "l2reg.losses.gradient_inverse_consistency.GradientInverseConsistency",
        "l2reg.losses.gradient_sparsity.GradientSparsity",
        "l2reg.losses.inverse_consistency.InverseConsistency",
        "l2reg.losses.keypoints.Keypoints",
        "l2reg.losses.local_ncc.LocalNCC",
        "l2reg.losses.mind.MIND",
        "l2reg.losses.mse.MSE",
        "l2reg.losses.ngf.NGF",
        "l2reg.losses.nmi.NMI",
        "l2reg.losses.segmentation.Segmentation",
        "l2reg.losses.total_variation.TotalVariation",
    ),
    "optimizer": (
        "torch.optim.Adam",
        "torch.optim.AdamW",
        "torch.optim.NAdam",
        "torch.optim.RAdam",
        "torch.optim.SGD",
    ),
    "scheduler": (
        "l2reg.training.schedule.PiecewiseConstant",
        "l2reg.training.schedule.WarmupCosine",
    ),
    "trainer": ("l2reg.training.trainer.TrainerSettings",),
    "task": ("l2reg.data.task.Task", "l2reg.phantom.make.phantom_task"),
    "layouts": ("l2reg.data.task.Layout",),
    "fixed": _SCAN_FILES,
    "moving": _SCAN_FILES,
    "unpaired": _SCAN_FILES,
    "intensity": (
        "l2reg.data.intensity.Percentiles",
        "l2reg.data.intensity.PercentilesAboveNoise",
        "l2reg.data.intensity.Window",
    ),
    "data": (
        "l2reg.data.dataset.Dataset",
        "l2reg.own_data.dataset.OwnDataset",
        "l2reg.training.synthetic_task.SyntheticData",
    ),
    "views": ("l2reg.phantom.views.SyntheticViews",),
    "reference": _MIND,
    "sampling": ("l2reg.data.sampling.Sampling",),
    "pseudo_labels": ("l2reg.data.pseudo_labels.PseudoLabels",),
    "augment": ("l2reg.data.augment.Augment",),
    "prealign_search": _BLOCK_MATCHING,
    "features": _WITH_LEARNED,
    "coarse_features": _WITH_LEARNED,
    "learned": (_LEARNED,),
    "mind": _MIND,
    "normalisation": ("l2reg.features.local_normalisation.LocalNormalisation",),
    "refine": ("l2reg.optimisation.refinement.Refinement",),
    "points": ("l2reg.optimisation.point_term.PointTerm",),
    "matcher": ("l2reg.optimisation.correspondences.KeypointMatcher",),
    "initial_map": ("l2reg.registration.initial_map.InitialMapSearch",),
    "rigid_search": ("l2reg.optimisation.rigid_search.RigidSearch",),
    "block_matching": _BLOCK_MATCHING,
    "judge": ("l2reg.registration.verdict.Judge",),
    "similarity": _FEATURES,
    "contrast": _FEATURES,
}
"""Dotted names by slot: those that ``configs/`` use, and optimisers of PyTorch."""

FUNCTIONS = (
    "l2reg.phantom.make.phantom_task",
    _LEARNED,
)  # these read or make files; others are classes

# What a class of a trusted package has to be; any class, where a slot is listed here without one
_MODULE = "torch.nn.Module"
_BASES: Mapping[str, str | None] = {
    **dict.fromkeys(SLOTS),
    **dict.fromkeys(("model", "network", "loss", "terms"), _MODULE),
    "optimizer": "torch.optim.Optimizer",
}


class ForbiddenTargetError(InputError):
    """A config names something of another package that it may not name."""


def locate(name: object, slot: str | None = None, trust: Sequence[str] = ()) -> Callable[..., Any]:
    """Return the class that a config names; nothing is imported for a name that is not allowed.

    Args:
        name: The value of ``_target_``.
        slot: The slot of ``SLOTS`` that the object is for; ``None`` for any of them.
        trust: Packages or modules of the user whose classes are allowed as well. They come from
            the command line, never from a checkpoint.

    Raises:
        ForbiddenTargetError: If a name of another package is neither on the list nor trusted.
        InputError: If another name is not on the list, or if it does not exist or is not a class
            that is defined there and fits the slot.
    """
    allowed = sum(SLOTS.values(), ()) if slot is None else SLOTS.get(slot, ())
    if isinstance(name, str) and name in allowed:
        value = _import(name)
        roots, base = [name.partition(".")[0]], None
    else:
        roots, base = list(check_trust(trust)), _BASES.get(slot or "", _MODULE)
        if not isinstance(name, str) or not any(_is_below(name, root) for root in roots):
            is_own = str(name).startswith("l2reg.")  # of another version, perhaps
            raise (InputError if is_own else ForbiddenTargetError)(_refusal(name, slot, allowed))
        value = _import(name)
    is_class = inspect.isclass(value) or name in FUNCTIONS
    if not is_class or not any(_is_below(f"{value.__module__}.", root) for root in roots):
        raise InputError(_mismatch(name, f"a class that is defined in {' or '.join(roots)}", value))
    if base is not None and not issubclass(value, _import(base)):
        raise InputError(_mismatch(name, f"a subclass of {base}", value))
    target: Callable[..., Any] = value
    return target


def check_trust(trust: object) -> tuple[str, ...]:
    """Return the names of the trusted packages or modules.

    Raises:
        InputError: If ``trust`` is not a list of dotted names.
    """
    names = list(trust) if isinstance(trust, Sequence) and not isinstance(trust, str) else [None]
    for name in names:
        if not isinstance(name, str) or not all(part.isidentifier() for part in name.split(".")):
            raise InputError(
                Problem(
                    where=f"trust={trust}",
                    what="is not a list of packages",
                    expected="names of packages or modules that can be imported",
                    found=f"{trust!r}",
                    remedy="trust=[mypkg]",
                )
            )
    return tuple(map(str, names))


def _import(name: str) -> Any:
    """Return what a dotted name stands for, ``None`` if there is no such name in its module."""
    module, _, attribute = name.rpartition(".")
    try:
        return getattr(importlib.import_module(module), attribute, None)
    except ModuleNotFoundError as error:
        if not _is_below(f"{module}.", str(error.name)):  # a module that this one imports
            raise
        return None


def _is_below(name: str, root: str) -> bool:
    return name.startswith(f"{root}.")


def _refusal(name: object, slot: str | None, allowed: Sequence[str]) -> Problem:
    """Return the problem of a name that is not on the list."""
    package, module = str(name).partition(".")[0], str(name).rpartition(".")[0]
    remedy = suggest(str(name), allowed) if allowed else "leave it out"
    if package == "l2reg" and slot:
        remedy += (
            f"; a new class of l2reg needs a line in SLOTS['{slot}'] of l2reg/config/allowed.py"
        )
    if module and package not in {*sys.stdlib_module_names, "l2reg", "hydra", "omegaconf"}:
        own = module if package in ("monai", "torch") else package
        remedy += (
            f"; if you trust the code of {own}, name it on the command line of l2reg train or "
            f"l2reg predict: trust=[{own}]. A checkpoint cannot do this for you"
        )
    return Problem(
        where=f"_target_: {name}",
        what="cannot be built from a config",
        expected=f"for {slot}: {', '.join(allowed)}"
        if slot
        else "a class of l2reg/config/allowed.py",
        found="a name that is not on this list; nothing of it was imported",
        remedy=remedy,
    )


def _mismatch(name: object, expected: str, value: object) -> Problem:
    return Problem(
        where=f"_target_: {name}",
        what="cannot be built from a config",
        expected=expected,
        found="no such name there" if value is None else f"{value!r}",
        remedy="correct the name; a package of your own has to be installed or on PYTHONPATH",
    )
