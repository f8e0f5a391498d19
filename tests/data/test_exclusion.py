import pytest

from l2reg.data.exclusion import check_exclusion, exclusion_keys, file_stem
from l2reg.problems import InputError


@pytest.mark.parametrize("entry", [3, "3", "03", "0003"])
def test_ids_compare_as_numbers(entry: int | str) -> None:
    assert exclusion_keys([entry]) == exclusion_keys(entry) == {"3"}


@pytest.mark.parametrize("entry", ["case_003", "3_4", "-3", "+3", "٣", "0x3", "", "30"])
def test_other_entries_are_not_the_id_three(entry: str) -> None:
    assert exclusion_keys([entry]) == {entry}


def test_no_entry_excludes_nothing() -> None:
    assert exclusion_keys([]) == exclusion_keys(None) == frozenset()


def test_an_unknown_id_is_refused_with_the_nearest_ones_and_their_range() -> None:
    ids, stems = {1, 40, 42, 43, 900}, {"img0001", "img0900"}
    check_exclusion(["0040", 900, "img0001"], task="oasis", ids=ids, stems=stems)
    with pytest.raises(InputError) as error:
        check_exclusion(["0041", 1], task="oasis", ids=ids, stems=stems)
    (problem,) = error.value.problems
    assert problem.where == "data.exclude=0041"
    assert problem.what == "names no scan of task oasis"
    assert "5 ids from 1 to 900" in problem.expected
    assert "40, 42, 43" in problem.remedy


@pytest.mark.parametrize("entry", ["img0901.nii.gz", "img0900.nii.gz", "img900"])
def test_an_unknown_stem_is_refused_with_the_nearest_one(entry: str) -> None:
    with pytest.raises(InputError, match=r"(?s)names no scan.*the nearest: img0900;"):
        check_exclusion(entry, task="oasis", ids={1, 900}, stems={"img0001", "img0900"})


@pytest.mark.parametrize("name", ["a_1.b.nii", "a_1.b.nii.gz", "a_1.b"])
def test_a_stem_is_the_name_without_the_endings_of_a_volume(name: str) -> None:
    assert file_stem(name) == "a_1.b"
