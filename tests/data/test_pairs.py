from dataclasses import replace
from pathlib import Path

from l2reg.data.pairs import Pair, PointFiles, Scan
from l2reg.io.scan_source import ScanSource


def scan(number: int) -> Scan:
    return Scan(
        id=number,
        official_id=number + 43,
        modality="MR",
        image=Path(f"img{number}.nii.gz"),
        labels=Path(f"seg{number}.nii.gz"),
        mask=None,
    )


PAIR = Pair(
    fixed=scan(395),
    moving=scan(396),
    keypoints=PointFiles((Path("k.csv"),)),
    landmarks=PointFiles((Path("l.csv"),)),
)


def test_a_pair_is_named_by_official_ids_fixed_first() -> None:
    assert PAIR.name == "0438_0439"


def test_swapping_swaps_the_points_too_and_twice_restores_the_pair() -> None:
    swapped = PAIR.swap()
    assert (swapped.fixed, swapped.moving) == (PAIR.moving, PAIR.fixed)
    assert swapped.keypoints is not None
    assert swapped.keypoints.reversed
    assert swapped.swap() == PAIR


def test_images_only_keeps_nothing_that_scores() -> None:
    bare = PAIR.images_only()
    assert (bare.keypoints, bare.landmarks, bare.fixed.labels, bare.moving.labels) == (None,) * 4
    assert bare.fixed.image == PAIR.fixed.image


def test_further_channels_are_scans_of_modalities_of_their_own() -> None:
    channels = (ScanSource(Path("t2.nii.gz")), ScanSource(Path("pd.nii.gz"), 3))
    first, second, third = replace(PAIR.fixed, channels=channels).each_channel
    assert first == replace(PAIR.fixed, labels=None)
    assert (second.source, third.source) == channels
    assert [each.modality for each in (first, second, third)] == [
        "MR", "MR_channel_1", "MR_channel_2",
    ]  # fmt: skip
    assert third.channels == ()
