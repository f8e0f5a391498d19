"""Sampling of training pairs, as a pure function of (seed, step, item)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from l2reg.data.pairs import Pair, Scan

SOURCES = ("intra_patient", "inter_patient", "cross_modality")


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Settings of the sampling of training pairs.

    Attributes:
        sources: Relative frequencies of the sources; a source without pairs is left out.
            ``intra_patient``: the two scans of one patient. ``inter_patient``: scans of two
            patients in one modality. ``cross_modality``: scans of two patients, in the fixed and
            the moving modality of the task.
        both_directions: Whether fixed and moving scan are swapped in half of the pairs.
        val_images: Whether the images of the validation pairs are trained on too, without their
            labels, keypoints and landmarks.
        n_points: Largest number of keypoints of a pair; a random subset is drawn from more.
        n_pairs: Number of random pairs that are drawn over and over again; ``None`` for new ones in
            every step.
    """

    sources: Mapping[str, float]
    both_directions: bool
    val_images: bool
    n_points: int
    n_pairs: int | None = None  # checkpoints of earlier builds have no such key

    def __post_init__(self) -> None:
        unknown = set(self.sources) - set(SOURCES)
        weights = self.sources.values()
        if unknown or min(weights, default=0) < 0 or not any(weights):
            raise ValueError(
                f"data.sampling.sources must be weights of {', '.join(SOURCES)}, 0 or more and not "
                f"all 0, got {dict(self.sources)}"
            )
        if self.n_points < 0:
            raise ValueError(f"data.sampling.n_points must be 0 or more, got {self.n_points}")
        if self.n_pairs is not None and self.n_pairs < 1:
            raise ValueError(f"data.sampling.n_pairs must be null or 1 or more, got {self.n_pairs}")


class RandomPairs:
    """Infinite sequence of random training pairs, a pure function of ``(seed, step, item)``.

    It has no state to store in a checkpoint: a resumed run draws the same pairs as an uninterrupted
    one, for any number of ranks.

    Args:
        intra_patient: Pairs of two scans of one patient.
        scans: Scans that are paired across patients.
        modalities: Fixed and moving modality of the task.
        sampling: Settings of the sampling.
        seed: Seed of the run.

    Raises:
        ValueError: If no source with a weight has a pair.
    """

    def __init__(
        self,
        intra_patient: Sequence[Pair],
        scans: Sequence[Scan],
        modalities: tuple[str, str],
        sampling: Sampling,
        seed: int,
    ) -> None:
        self.intra_patient = sorted(intra_patient, key=lambda pair: str(pair.fixed.image))
        self.scans = sorted(scans, key=lambda scan: str(scan.image))
        self.modalities = modalities
        self.both_directions = sampling.both_directions
        self.n_pairs = sampling.n_pairs
        self.seed = seed
        possible = {
            "intra_patient": bool(self.intra_patient),
            "inter_patient": any(len(self._partners(a, a.modality)) > 0 for a in self.scans),
            "cross_modality": any(
                scan.modality == modalities[0] and len(self._partners(scan, modalities[1])) > 0
                for scan in self.scans
            ),
        }
        self.weights = {s: w for s, w in sampling.sources.items() if w > 0 and possible[s]}
        if not self.weights:
            raise ValueError("no source with a weight above 0 has a pair")

    def draw(self, step: int, item: int) -> Pair:
        """Return pair number ``item`` of the batch of training step ``step``."""
        if self.n_pairs is not None:
            step, item = 0, (step + item) % self.n_pairs
        rng = np.random.default_rng((self.seed, step, item))
        weights = np.array(list(self.weights.values()))
        source = list(self.weights)[rng.choice(len(weights), p=weights / weights.sum())]
        if source == "intra_patient":
            pair = self.intra_patient[rng.integers(len(self.intra_patient))]
        else:
            pair = self._across_patients(rng, cross=source == "cross_modality")
        return pair.swap() if self.both_directions and rng.random() < 0.5 else pair

    def _across_patients(self, rng: np.random.Generator, *, cross: bool) -> Pair:
        """Return a random pair of two patients; ``cross`` asks for the task's two modalities."""
        while True:  # terminates, as __init__ checks that some scan has a partner
            fixed = self.scans[rng.integers(len(self.scans))]
            if cross and fixed.modality != self.modalities[0]:
                continue
            partners = self._partners(fixed, self.modalities[1] if cross else fixed.modality)
            if partners:
                return Pair(fixed=fixed, moving=partners[rng.integers(len(partners))])

    def _partners(self, fixed: Scan, modality: str) -> list[Scan]:
        """Return the scans of other patients in a modality."""
        return [
            scan
            for scan in self.scans
            if scan.modality == modality and not scan.is_of_same_patient(fixed)
        ]
