"""Feature extractor: a callable that computes feature maps of both images of a pair.

The maps lie on the images' grids. Their squared difference, summed over channels, measures how
badly the images match.
"""

from typing import Protocol, runtime_checkable

from l2reg.shapes import Image, Maps


@runtime_checkable
class FeatureExtractor(Protocol):
    """Computes feature maps of a pair."""

    def __call__(self, fixed: Image, moving: Image) -> tuple[Maps, Maps]:
        """Return the feature maps of the fixed and of the moving image."""
