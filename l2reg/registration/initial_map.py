"""Initial map of two scans: that of their headers, or another one that fits better."""

from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch

from l2reg.batch import Batch
from l2reg.features.extractor import FeatureExtractor
from l2reg.features.similarity import scan_similarity
from l2reg.geometry.affine import Motion, compose_affine, identity_affine
from l2reg.optimisation.block_matching import BlockMatching
from l2reg.optimisation.rigid_search import RigidSearch
from l2reg.registration.small_scans import SmallScans
from l2reg.registration.start import Start
from l2reg.shapes import Affine

Prealignment = Literal["auto", "none", "translation", "rigid", "affine"]
PREALIGNMENTS: tuple[Prealignment, ...] = get_args(Prealignment)

_AUTO: Motion = "rigid"


@dataclass(frozen=True)
class InitialMap:
    """Map that a registration starts from.

    Attributes:
        matrix: Map from fixed to moving voxels; the affine part of a given field.
        source: ``headers``, ``file``, ``field``, or the family of maps that was searched.
        similarity: Similarity of the scans after this map or field, in [-1, 1].
        header_similarity: Similarity after the map of the headers.
        translation_mm: Distance to which the map moves the centre of the fixed scan from where the
            headers have it.
        rotation_deg: Angle by which the map turns what the headers say.
        flags: Warnings: a map that was searched fits poorly, or another one as well, or what was
            given fits worse than the headers.
    """

    matrix: Affine
    source: str
    similarity: float
    header_similarity: float
    translation_mm: float
    rotation_deg: float
    flags: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.source in ("file", "field"):
            kind = "map," if self.source == "file" else "field, of which the affine part is"
            return (
                f"starts from the given {kind} {self.translation_mm:.1f} mm and "
                f"{self.rotation_deg:.1f} degrees away from the headers (similarity "
                f"{self.header_similarity:.2f} -> {self.similarity:.2f})"
            )
        return (
            f"first aligned by a {self.source} map, {self.translation_mm:.1f} mm and "
            f"{self.rotation_deg:.1f} degrees away from the headers (similarity "
            f"{self.header_similarity:.2f} -> {self.similarity:.2f})"
        )


@dataclass(frozen=True, kw_only=True)
class InitialMapSearch:
    """Finds the initial map of two scans that may lie anywhere, turned by any angle up to a limit.

    The map of the headers and the best ones of an exhaustive search are refined by block matching.
    The most similar result is kept if it fits clearly better than the headers.

    Attributes:
        max_size: Number of voxels along the longest side on which maps are refined and compared.
        features: Feature maps whose correlation is the similarity of the scans.
        rigid_search: Exhaustive search.
        n_matches: Largest number of its results that are refined.
        max_gap: Largest difference of their correlation from the best one.
        block_matching: Refinement.
        min_gain: Smallest gain of similarity for which the headers are not followed; a map whose
            similarity is lower by less fits about as well.
        min_overlap: Smallest overlap after a map, as a fraction of the smaller scan.
        min_similarity: Similarity after a map that was searched below which it is flagged.
        same_mm: Mean distance up to which two maps count as the same.
    """

    max_size: int
    features: FeatureExtractor
    rigid_search: RigidSearch
    n_matches: int
    max_gap: float
    block_matching: BlockMatching
    min_gain: float
    min_overlap: float
    min_similarity: float
    same_mm: float

    @torch.no_grad()
    def __call__(self, scans: SmallScans, header_map: Affine, prealign: Prealignment) -> InitialMap:
        """Return the initial map of two scans.

        Args:
            scans: The scans, at most ``max_size`` voxels large.
            header_map: Map from fixed to moving full voxels that the headers describe.
            prealign: ``none`` for the map of the headers; a family of maps to search in, of which
                the best is kept if it fits better than the headers; or ``auto``, which searches
                rigid maps and keeps the best if it fits clearly better.
        """
        start = scans.to_small(header_map)
        header = self._similarity(scans, start)
        by_headers = InitialMap(header_map, "headers", header, header, 0.0, 0.0)
        if prealign == "none":
            return by_headers
        motion = _AUTO if prealign == "auto" else prealign
        starts = self._starts(scans, start, turned=motion != "translation")
        found = [self._refine(scans, matrix, motion) for matrix in starts]
        similarities = [self._similarity(scans, matrix) for matrix in found]
        best = max(similarities)
        if best < header + (self.min_gain if prealign == "auto" else 0.0):
            return by_headers
        matrix = found[similarities.index(best)]
        flags = []
        if best < self.min_similarity:
            flags.append(f"weak start: the best {motion} map has a similarity of {best:.2f}")
        rivals = [
            scans.distance_mm(matrix, other)
            for other, similarity in zip(found, similarities, strict=True)
            if similarity > best - self.min_gain
        ]
        if max(rivals) > self.same_mm:
            flags.append(f"uncertain start: another map, {max(rivals):.0f} mm away, fits as well")
        change = scans.change(start, matrix)
        return InitialMap(scans.to_full(matrix), motion, best, header, *change, tuple(flags))

    @torch.no_grad()
    def from_file(self, scans: SmallScans, header_map: Affine, start: Start) -> InitialMap:
        """Return a given start, with its similarity beside that of the headers.

        Args:
            scans: The scans, at most ``max_size`` voxels large.
            header_map: Map from fixed to moving full voxels that the headers describe.
            start: The given start.
        """
        by_headers = scans.to_small(header_map)
        header = self._similarity(scans, by_headers)
        similarity = self._batch_similarity(scans, scans.at_start(start))
        change = scans.change(by_headers, scans.to_small(start.matrix))
        flags: tuple[str, ...] = ()
        if similarity < header - self.min_gain:
            flags = (
                f"bad start: the similarity is {similarity:.2f}, and {header:.2f} by the headers; "
                "does the given transform lead from fixed to moving positions?",
            )
        source = "file" if start.disp is None else "field"
        return InitialMap(start.matrix, source, similarity, header, *change, flags)

    def _starts(self, scans: SmallScans, start: Affine, *, turned: bool) -> list[Affine]:
        """Return the map of the headers, and the best ones of the exhaustive search."""
        search = self.rigid_search if turned else replace(self.rigid_search, angles_deg=[0.0])
        matches = search(scans.images, scans.masks, start, scans.spacing_mm)
        best = matches[0].correlation
        close = [match for match in matches if match.correlation >= best - self.max_gap]
        return [start, *(match.matrix for match in close[: self.n_matches])]

    def _similarity(self, scans: SmallScans, matrix: Affine) -> float:
        """Return the similarity after a map; -1 if the scans hardly overlap."""
        return self._batch_similarity(scans, scans.align(matrix))

    def _batch_similarity(self, scans: SmallScans, batch: Batch) -> float:
        if scans.overlap(batch) < self.min_overlap:
            return -1.0
        return scan_similarity(batch, self.features)

    def _refine(self, scans: SmallScans, matrix: Affine, motion: Motion) -> Affine:
        step = self.block_matching(scans.align(matrix), motion, identity_affine(1))
        return compose_affine(matrix, step)
