from pathlib import Path

import pytest

from l2reg.own_data.own_table import read_own_table
from l2reg.own_data.splits import Splits, split_rows
from l2reg.problems import InputError


def split(text: str, fraction: float = 0.25, seed: int = 0) -> Splits:
    path = Path("own.csv")
    path.write_text(text)
    return split_rows(read_own_table(path, None), val_fraction=fraction, seed=seed)


def names(splits: Splits) -> dict[str, list[str]]:
    return {split: [row.name for row in rows] for split, rows in splits.rows.items()}


def test_what_the_table_says_counts() -> None:
    splits = split("fixed,moving,subject,split\na,b,1,val\nc,d,2,train\ne,f,3,test\ng,h,2,train\n")
    assert names(splits) == {
        "train": ["pair_002", "pair_004"], "val": ["pair_001"], "test": ["pair_003"]
    }  # fmt: skip
    assert splits.said == []


def test_a_subject_is_never_on_both_sides_whatever_the_seed() -> None:
    rows = [(f"f{n}", f"m{n}", n // 3) for n in range(24)]  # 8 people of 3 pairs
    text = "fixed,moving,subject\n" + "\n".join(f"{f},{m},p{p}" for f, m, p in rows)
    seen = set()
    for seed in range(6):
        splits = split(text, seed=seed)
        people = [
            {subject for row in splits.rows[side] for subject in row.subjects}
            for side in ("train", "val")
        ]
        assert not people[0] & people[1]
        assert [len(p) for p in people] == [6, 2]
        assert len(splits.rows["train"]) + len(splits.rows["val"]) == 24
        assert names(splits) == names(split(text, seed=seed))
        seen.add(tuple(sorted(people[1])))
    assert len(seen) > 1
    assert "seed 5 keeps 6 of 24 for validation: " in splits.said[0]


def test_without_subjects_pairs_that_share_a_file_stay_together() -> None:
    text = "fixed,moving\na,b\nb,c\nd,e\nf,d\n"
    splits = split(text)
    assert sorted(map(len, (splits.rows["train"], splits.rows["val"]))) == [2, 2]
    assert {row.name for row in splits.rows["val"]} in (
        {"pair_001", "pair_002"}, {"pair_003", "pair_004"}
    )  # fmt: skip
    assert splits.said[0].startswith("the table has no column subject: each pair is taken as")


def test_pairs_across_people_who_are_all_connected_are_left_out_on_the_border() -> None:
    text = "fixed,moving,fixed_subject,moving_subject\n" + "".join(
        f"{a},{b},{a},{b}\n" for a in "1234" for b in "1234" if a != b
    )
    splits = split(text, fraction=0.5)
    assert len(splits.rows["train"]) == len(splits.rows["val"]) == 2
    assert splits.said[1] == "left out, of somebody of either side: 8 pairs"


def test_a_template_belongs_to_nobody() -> None:
    text = "fixed,moving,moving_subject\n" + "".join(f"mni,{n},p{n}\n" for n in range(4))
    splits = split(text)
    assert [len(splits.rows[side]) for side in ("train", "val")] == [3, 1]
    with pytest.raises(InputError, match=r"(?s)too few subjects.*marks a template"):
        split("fixed,moving\n" + "".join(f"mni,{n}\n" for n in range(4)))


def test_single_scans_keep_two_people_for_validation() -> None:
    splits = split("scan,subject\n" + "".join(f"{n},p{n}\n" for n in range(4)), fraction=0.1)
    assert [len(splits.rows[side]) for side in ("train", "val")] == [2, 2]
    with pytest.raises(InputError, match="too few subjects to keep some for validation"):
        split("scan\na\nb\nc\n")
    assert len(split("scan\na\nb\nc\n", fraction=0.0).rows["train"]) == 3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("fixed,moving,subject,split\na,b,1,val\nc,d,1,train\n",
         r"(?s)subject 1: is in two splits.*train \(pair_002\), val \(pair_001\)"),
        ("fixed,moving,split\na,b,val\na,c,train\n", "(?s)subject .*/a: is in two splits"),
        ("fixed,moving,split\na,b,val\nc,d,\n", "(?s)pair_002: is of no split.*found     ''"),
        ("fixed,moving,split\na,b,valid\n", "(?s)pair_001: is of no split.*'valid'"),
        ("fixed,moving,initial\na,b,c.mat\n", "column initial: is not followed in training"),
        ("scan,fixed\na,b\n", "unknown column 'fixed'"),
        ("scan,points\na,b.csv\n", "points of unknown coordinates"),
    ],
)  # fmt: skip
def test_a_table_that_would_leak_or_is_unclear_is_refused(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        split(text)
