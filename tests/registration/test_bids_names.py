from pathlib import Path

import pytest

from l2reg.problems import InputError
from l2reg.registration.bids_names import (
    Spaces,
    check_chain,
    check_result,
    scan_space,
    transform_spaces,
)

TO_MNI = Path("sub-01_from-T1w_to-MNI_mode-image_xfm.h5")
TO_T1W = Path("sub-01_from-MNI_to-T1w_mode-image_xfm.h5")
POINTS_TO_T1W = Path("sub-01_from-MNI_to-T1w_mode-points_xfm.nii.gz")
T1W, MNI = Path("sub-01_desc-preproc_T1w.nii.gz"), Path("sub-01_space-MNI_desc-preproc_T1w.nii.gz")


@pytest.mark.parametrize(
    ("name", "fixed", "moving"),
    [
        (TO_MNI.name, "MNI", "T1w"),
        (TO_T1W.name, "T1w", "MNI"),
        (POINTS_TO_T1W.name, "MNI", "T1w"),
        ("from-orig_to-boldref_mode-image_desc-hmc_xfm.txt", "boldref", "orig"),
    ],
)
def test_images_go_onto_the_fixed_grid_and_points_away_from_it(
    name: str, fixed: str, moving: str
) -> None:
    assert transform_spaces(Path("anywhere") / name) == Spaces(fixed, moving)


@pytest.mark.parametrize(
    "name",
    ["transform.nii.gz", "xfm.h5", "from-a_to-b_xfm.h5", "from-a_to-b_mode-image_T1w.nii.gz",
     "from-a_to-_mode-image_xfm.h5", "from-a_to-b_mode-surface_xfm.h5"],
)  # fmt: skip
def test_other_names_tell_nothing(name: str) -> None:
    assert transform_spaces(Path(name)) is None


def test_a_scan_is_of_its_space_its_template_or_its_suffix() -> None:
    assert scan_space(T1W) == "T1w"
    assert scan_space(MNI) == "MNI"
    assert scan_space(Path("tpl-MNI_res-01_T1w.nii.gz")) == "MNI"


@pytest.mark.parametrize("name", [TO_MNI, POINTS_TO_T1W], ids=str)
def test_scans_at_the_wrong_ends_are_refused_and_unknown_ones_are_not(name: Path) -> None:
    check_chain([name], MNI, T1W)
    check_chain([name], Path("fixed.nii.gz"), None)
    for ends in ((T1W, None), (None, MNI), (T1W, MNI)):
        with pytest.raises(InputError, match="l2reg warp --inverse"):
            check_chain([name], *ends)


def test_a_scan_as_acquired_may_have_any_suffix() -> None:
    raw = Path("sub-01_ses-2_T1w.nii.gz")
    check_chain([Path("sub-01_from-orig_to-T1w_mode-image_xfm.txt")], T1W, raw)


def test_a_chain_follows_positions_from_the_reference() -> None:
    coregistration = Path("sub-01_from-boldref_to-T1w_mode-image_desc-coreg_xfm.txt")
    bold = Path("sub-01_task-rest_boldref.nii.gz")
    check_chain([TO_MNI, coregistration], MNI, bold)
    check_chain([TO_MNI, Path("0GenericAffine.mat"), coregistration], MNI, bold)
    with pytest.raises(InputError, match="does not follow the transform before it"):
        check_chain([coregistration, TO_MNI], MNI, bold)
    with pytest.raises(InputError, match=r"a scan of MNI"):
        check_chain([TO_MNI, coregistration], T1W, bold)


def test_a_conversion_keeps_the_direction_that_the_name_tells_and_an_inverse_turns_it() -> None:
    plain = Path("transform.nii.gz")
    for source, out, inverse in (
        (TO_MNI, POINTS_TO_T1W, False),
        (TO_MNI, TO_T1W, True),
        (TO_MNI, plain, True),
        (plain, TO_MNI, False),
    ):
        spaces = check_result(source, out, MNI, T1W, inverse=inverse)
        assert spaces == transform_spaces(out)
        if source != plain and spaces is not None:
            command = "invert" if inverse else "convert"
            with pytest.raises(InputError, match=f"l2reg {command} writes that one"):
                check_result(source, out, None, None, inverse=not inverse)
    with pytest.raises(InputError, match=r"from-T1w_to-MNI_mode-image_xfm(.|\n)*change the name"):
        check_result(TO_MNI, Path("from-T1w_to-fsl_mode-image_xfm.h5"), None, None, inverse=False)


def test_the_scans_tell_if_only_the_output_is_named() -> None:
    plain = Path("transform.nii.gz")
    assert check_result(plain, TO_T1W, MNI, T1W, inverse=True) == Spaces("T1w", "MNI")
    for inverse, ends in ((False, (T1W, MNI)), (True, (T1W, MNI))):
        out = TO_MNI if not inverse else TO_T1W
        with pytest.raises(InputError, match="does not match"):
            check_result(plain, out, *ends, inverse=inverse)


def test_an_incomplete_name_is_refused_with_a_whole_one() -> None:
    with pytest.raises(InputError, match=r"--out out/from-T1w_to-MNI_mode-image_xfm\.nii\.gz"):
        check_result(
            Path("a.nii.gz"), Path("out/from-T1w_to-MNI_xfm.nii.gz"), None, None, inverse=False
        )
