"""What a feature extractor is: a callable that makes feature maps of a pair.

Its maps of the fixed and the moving image lie on the images' grids; their squared difference,
summed over channels, says how badly the scans match.
"""

from typing import Protocol, runtime_checkable

from l2reg.shapes import Image, Maps


@runtime_checkable
class FeatureExtractor(Protocol):
    """Makes feature maps of a pair."""

    def __call__(self, fixed: Image, moving: Image) -> tuple[Maps, Maps]:
        """Return the maps of the fixed and the moving image."""
