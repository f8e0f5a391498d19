"""Verdict on a registration: what can be told without ground truth, and warnings in words."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from l2reg.batch import Batch
from l2reg.features.extractor import FeatureExtractor
from l2reg.features.similarity import scan_similarity
from l2reg.geometry.jacobian import jacobian_determinant
from l2reg.registration.small_scans import SmallScans
from l2reg.registration.start import Start
from l2reg.shapes import Field, Mask

_BLACK = 0.05  # intensity; those of a scan lie in [0, 1]

_NOTHING_COMPARED = (
    "nothing compared: the part that both scans show is too thin; the result is the start"
)

Lengths = Float[Tensor, " n"]


@dataclass(frozen=True)
class Verdict:
    """What can be told about a registration without ground truth.

    Similarities lie in [-1, 1], see ``scan_similarity``; they are those where both scans have data.
    Displacements are those where neither is black, and do not include the initial map, or
    the affine part of a given field.

    Attributes:
        overlap: Volume that both scans show, as a fraction of the smaller scan.
        similarity_before: Similarity at the start: after the initial map, or the given field.
        similarity_after: Similarity after registration.
        contrast_before: Correlation of the local contrast at the start where neither scan is black,
            which is negative if one is bright where the other one is dark.
        contrast_after: The same after registration.
        mean_displacement_mm: Mean length of the displacement.
        max_displacement_mm: Largest length of the displacement.
        at_limit: Fraction of the voxels that moved about as far as the search reaches.
        folds: Fraction of the voxels where the deformation folds.
        unsuited: Whether the method, which compares intensities, made two scans less alike.
        flags: Warnings, the most serious first; none if nothing suggests that the result is wrong.
    """

    overlap: float
    similarity_before: float
    similarity_after: float
    contrast_before: float
    contrast_after: float
    mean_displacement_mm: float
    max_displacement_mm: float
    at_limit: float
    folds: float
    unsuited: bool = False
    flags: tuple[str, ...] = ()

    def __str__(self) -> str:
        return (
            f"overlap {100 * self.overlap:.0f} %, similarity {self.similarity_before:.2f} -> "
            f"{self.similarity_after:.2f}, displacement {self.mean_displacement_mm:.1f} mm "
            f"(at most {self.max_displacement_mm:.1f}), folds {100 * self.folds:.2f} %"
        )


@dataclass(frozen=True)
class Outcome:
    """Result of a registration.

    Attributes:
        start: What the registration started from.
        total: Field from fixed to moving voxels, on the fixed scan's grid.
        disp: Field that fixed positions pass through before the map of the start, on the working
            grid.
        working: The pair on the working grid.
        reach_mm: Largest displacement along an axis that the search can find; infinite without one.
        compared: Whether the method could compare a voxel; features near the edge of the overlap
            look beyond it.
    """

    start: Start
    total: Float[Tensor, "b 3 fi fj fk"]
    disp: Field
    working: Batch
    reach_mm: tuple[float, float, float]
    compared: bool = True


@dataclass(frozen=True, kw_only=True)
class Judge:
    """Gives the verdict on a registration.

    Attributes:
        similarity: Feature maps whose correlation is the similarity, for any two contrasts.
        contrast: Feature maps whose correlation tells whether two contrasts are the same.
        max_loss: Largest loss of similarity that is not flagged.
        min_similarity: Similarity after registration below which scans are flagged as unlike.
        min_contrast: Correlation of the local contrast after registration below which contrasts
            are flagged as different, if the method requires the same; as they are if it is below
            the negative of this before registration.
        good_contrast: Correlation of the local contrast after registration from which a method that
            compares intensities is taken to have suited.
        min_overlap: Overlap below which it is flagged as small, as a fraction of the smaller scan.
        max_at_limit: Largest fraction of voxels at the search's limit that is not flagged.
        limit: Fraction of the search's reach from which a voxel counts as at its limit.
        max_folds: Largest fraction of folded voxels that is not flagged.
    """

    similarity: FeatureExtractor
    contrast: FeatureExtractor
    max_loss: float
    min_similarity: float
    min_contrast: float
    good_contrast: float
    min_overlap: float
    max_at_limit: float
    limit: float
    max_folds: float

    @torch.no_grad()
    def __call__(self, scans: SmallScans, outcome: Outcome, *, same_contrast: bool) -> Verdict:
        """Return the verdict on a registration.

        Args:
            scans: The two scans at low resolution.
            outcome: The result.
            same_contrast: Whether the method compares intensities, and so requires that tissues
                that are bright in one scan are bright in the other one.
        """
        before = scans.at_start(outcome.start)
        after = scans.batch(scans.small_field(outcome.total))
        shared = before["moving_mask"] * after["moving_mask"]
        lengths, at_limit = self._displacement(outcome)
        folded = jacobian_determinant(outcome.disp) <= 0
        verdict = Verdict(
            overlap=scans.overlap(after),
            similarity_before=scan_similarity(before, self.similarity, shared),
            similarity_after=scan_similarity(after, self.similarity, shared),
            contrast_before=scan_similarity(before, self.contrast, shared * _bright(before)),
            contrast_after=scan_similarity(after, self.contrast, shared * _bright(after)),
            mean_displacement_mm=float(lengths.mean()),
            max_displacement_mm=float(lengths.max()),
            at_limit=at_limit,
            folds=float(folded.float().mean()),
        )
        unsuited = same_contrast and (self._differ(verdict) or self._is_worse(verdict))
        verdict = replace(verdict, unsuited=unsuited)
        flags = tuple(self._flags(verdict, same_contrast))
        return replace(verdict, flags=flags if outcome.compared else (_NOTHING_COMPARED, *flags))

    def _differ(self, verdict: Verdict) -> bool:
        """Tell whether two contrasts are not the same."""
        opposite = verdict.contrast_before < -self.min_contrast
        return opposite or verdict.contrast_after < self.min_contrast

    def _is_worse(self, verdict: Verdict) -> bool:
        """Tell whether two scans of one contrast are less alike than before."""
        loss = verdict.similarity_before - verdict.similarity_after
        return max(loss, verdict.contrast_before - verdict.contrast_after) > self.max_loss

    def _displacement(self, outcome: Outcome) -> tuple[Lengths, float]:
        """Return lengths in mm where neither scan is black, and the fraction at the limit."""
        batch = outcome.working
        inside = (batch["overlap"] * _bright(batch))[0, 0] > 0
        if not bool(inside.any()):
            return torch.zeros(1), 0.0
        spacing_mm = batch["spacing_mm"][0].view(3, 1, 1, 1)
        disp_mm = (outcome.disp[0] * spacing_mm)[:, inside]
        reach_mm = disp_mm.new_tensor(outcome.reach_mm)[:, None]
        at_limit = (disp_mm.abs() >= self.limit * reach_mm).any(dim=0)
        return disp_mm.norm(dim=0), float(at_limit.float().mean())

    def _flags(self, verdict: Verdict, same_contrast: bool) -> Iterator[str]:
        before, after = verdict.similarity_before, verdict.similarity_after
        if same_contrast and self._differ(verdict):
            yield (
                "contrasts do not match: the local contrasts have a correlation of "
                f"{verdict.contrast_before:.2f} before and {verdict.contrast_after:.2f} after "
                "registration; --like abdomen is for two contrasts"
            )
        if after < before - self.max_loss:
            yield f"worse than the start: the similarity fell from {before:.2f} to {after:.2f}"
        elif verdict.unsuited and not self._differ(verdict):
            yield (
                "worse than the start: the correlation of the local contrasts fell from "
                f"{verdict.contrast_before:.2f} to {verdict.contrast_after:.2f}"
            )
        if after < self.min_similarity:
            yield (
                f"not alike: the similarity of the registered scans is {after:.2f}; do both show "
                "the same part of the body?"
            )
        if verdict.overlap < self.min_overlap:
            yield f"little overlap: {100 * verdict.overlap:.0f} % of the smaller field of view"
        if verdict.at_limit > self.max_at_limit:
            yield (
                f"hit the limit: {100 * verdict.at_limit:.1f} % of the voxels moved about as far "
                "as the search reaches; larger motion is not found"
            )
        if verdict.folds > self.max_folds:
            yield f"folds: {100 * verdict.folds:.2f} % of the voxels"


def _bright(batch: Batch) -> Mask:
    """Return where neither scan is black: the edge of a body on black is alike in all contrasts.

    Of several channels, the first one counts.
    """
    both = (batch["fixed"][:, :1] > _BLACK) & (batch["moving"][:, :1] > _BLACK)
    return both.to(batch["fixed"].dtype)
