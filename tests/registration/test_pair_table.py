from pathlib import Path

import pytest

from l2reg.problems import InputError
from l2reg.registration.pair_table import read_pair_table


def write(text: str) -> Path:
    path = Path("study/pairs.csv")
    path.parent.mkdir()
    path.write_text(text)
    return path


def test_paths_count_from_the_folder_of_the_table() -> None:
    table = write(
        "Moving, fixed,name,moving_mask,initial,fixed_points,moving_points\n"
        "m.nii.gz, sub/f.nii.gz,first,mask.nii.gz,greedy:a.mat,f.csv,m.csv\n"
        "\n"
        "/data/m.nii,f.nii,,,b.tfm\n"
    )
    first, second = read_pair_table(table, "lps")
    folder = Path("study").absolute()
    assert first.name == "first"
    assert first.fixed.image.path == folder / "sub/f.nii.gz"
    assert first.moving.mask == folder / "mask.nii.gz"
    assert first.fixed.mask is None
    assert first.moving.points == folder / "m.csv"
    assert first.moving.coordinates == "lps"
    assert first.initial == f"greedy:{folder / 'a.mat'}"
    assert second.name == "pair_002"
    assert second.moving.image.path == Path("/data/m.nii")
    assert second.initial == str(folder / "b.tfm")
    assert second.moving.points is None


def test_several_channels_of_a_scan_are_separated_by_semicolons() -> None:
    table = Path("pairs.csv")
    table.write_text("fixed,moving,fixed_channel,moving_channel\nf.nii,m.nii,a.nii; b.nii,c.nii\n")
    (row,) = read_pair_table(table)
    names = [[channel.path.name for channel in side.channels] for side in (row.fixed, row.moving)]
    assert names == [["a.nii", "b.nii"], ["c.nii"]]
    assert row.fixed.channels[0].path.is_absolute()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has no column 'fixed'"),
        ("fixed\na", "has no column 'moving'"),
        ("fixed,moving\n", "lists no scan"),
        ("fixed,moving,fixed\na,b,c", "has a column twice"),
        ("fixed;moving\na;b", "with commas between"),
        ("x,y,z\n1,2,3", "does not begin with the names of columns"),
        ("fixed,moving,labels\na,b,c", r"(?s)unknown column 'labels'.*did you mean"),
        ("fixed,moving\na,b\nc,\nd", r"(?s)row 2: does not name.*row 3: does not name"),
        ("moving,fixed\na", "row 1: does not name fixed and moving"),
        ("fixed,moving\na,b,c", "row 1: has more cells than the header"),
        ("fixed,moving,moving_volume\na,b,-1", "row 1: does not number a volume"),
        ("fixed,moving,name\na,b,../x", "row 1: has a name that is no folder's"),
        ("fixed,moving,name\na,b,x\nc,d,x", r"(?s)names two rows alike.*'x' 2 times"),
        ("fixed,moving,fixed_points\na,b,c", "--coordinates: is missing"),
        ('fixed,moving\n"a,b', "cannot be read as a table of scans"),
    ],
)
def test_a_faulty_table_is_refused(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_pair_table(write(text), None)


def test_a_missing_table_is_named() -> None:
    with pytest.raises(InputError, match=r"(?s)none\.csv: cannot be read.*no such file"):
        read_pair_table(Path("none.csv"), None)


def test_a_row_names_one_of_several_volumes_before_the_option_does() -> None:
    first, second = read_pair_table(
        write("fixed,moving,fixed_volume,moving_volume\na.nii,b.nii,2,0\na.nii,b.nii,,3\n"),
        volume=5,
    )
    volumes = [[s.image.volume for s in (row.fixed, row.moving)] for row in (first, second)]
    assert volumes == [[2, 0], [5, 3]]
