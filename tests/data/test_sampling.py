from collections import Counter
from pathlib import Path

import pytest

from l2reg.data.pairs import Pair, Scan
from l2reg.data.sampling import RandomPairs, Sampling


def scan(number: int, modality: str = "MR", folder: str = "a") -> Scan:
    image = Path(folder) / f"{modality}{number}.nii.gz"
    return Scan(
        id=number, official_id=number, modality=modality, image=image, labels=None, mask=None
    )


def sampling(**changes: object) -> Sampling:
    sources = {"intra_patient": 1.0, "inter_patient": 1.0, "cross_modality": 1.0}
    options = {"sources": sources, "both_directions": False, "val_images": False, "n_points": 9}
    return Sampling(**{**options, **changes})  # type: ignore[arg-type]


BRAINS = [scan(n) for n in range(5)]
LISTED = [Pair(fixed=scan(n), moving=scan(n, "CT")) for n in range(3)]


def test_the_same_seed_step_and_item_always_give_the_same_pair() -> None:
    first = RandomPairs([], BRAINS, ("MR", "MR"), sampling(), seed=1)
    second = RandomPairs([], BRAINS[::-1], ("MR", "MR"), sampling(), seed=1)
    for step in range(30):
        assert first.draw(step, 2) == second.draw(step, 2)


def test_steps_items_and_seeds_differ() -> None:
    pairs = RandomPairs([], BRAINS, ("MR", "MR"), sampling(), seed=1)
    other = RandomPairs([], BRAINS, ("MR", "MR"), sampling(), seed=2)
    drawn = [[p.draw(step, item).name for step in range(40)] for p, item in
             ((pairs, 0), (pairs, 1), (other, 0))]  # fmt: skip
    assert drawn[0] != drawn[1]
    assert drawn[0] != drawn[2]
    assert len(set(drawn[0])) > 10


def test_every_ordered_pair_of_patients_comes_and_none_with_itself() -> None:
    pairs = RandomPairs([], BRAINS, ("MR", "MR"), sampling(), seed=0)
    drawn = {(p.fixed.id, p.moving.id) for p in (pairs.draw(step, 0) for step in range(500))}
    assert drawn == {(a, b) for a in range(5) for b in range(5) if a != b}


def test_sources_come_as_often_as_their_weights_say() -> None:
    weights = {"intra_patient": 3.0, "inter_patient": 0.0, "cross_modality": 1.0}
    pool = [scan(7, "MR", "b"), scan(8, "CT", "c"), scan(9, "CT", "c")]
    pairs = RandomPairs(LISTED, pool, ("MR", "CT"), sampling(sources=weights), seed=0)
    drawn = Counter(pairs.draw(step, 0).fixed.id == 7 for step in range(2000))
    assert 0.2 < drawn[True] / 2000 < 0.3
    crossed = [p for p in (pairs.draw(step, 0) for step in range(200)) if p.fixed.id == 7]
    assert {p.moving.modality for p in crossed} == {"CT"}


def test_a_few_pairs_are_drawn_over_and_over_again() -> None:
    for n in (1, 3):
        pairs = RandomPairs([], BRAINS, ("MR", "MR"), sampling(n_pairs=n), seed=0)
        drawn = Counter(pairs.draw(step, item).name for step in range(30) for item in (0, 1))
        assert len(drawn) == n
    with pytest.raises(
        ValueError, match=r"data\.sampling\.n_pairs must be null or 1 or more, got 0"
    ):
        sampling(n_pairs=0)


def test_both_directions_come_equally_often() -> None:
    pairs = RandomPairs(LISTED, [], ("MR", "CT"), sampling(both_directions=True), seed=0)
    forwards = sum(pairs.draw(step, 0).fixed.modality == "MR" for step in range(1000))
    assert 430 < forwards < 570


def test_a_source_without_pairs_is_left_out() -> None:
    pairs = RandomPairs(LISTED, [], ("MR", "CT"), sampling(), seed=0)
    assert {pairs.draw(step, 0).fixed.modality for step in range(50)} == {"MR"}


def test_no_pairs_at_all_are_refused() -> None:
    with pytest.raises(ValueError, match="no source with a weight above 0 has a pair"):
        RandomPairs([], [scan(1)], ("MR", "MR"), sampling(), seed=0)


def test_unknown_sources_are_refused() -> None:
    for sources in ({"intra": 1.0}, {"intra_patient": -1.0}, {"intra_patient": 0.0}, {}):
        with pytest.raises(ValueError, match=r"data\.sampling\.sources must be weights"):
            sampling(sources=sources)


def test_less_than_no_points_are_refused() -> None:
    with pytest.raises(ValueError, match=r"data\.sampling\.n_points must be 0 or more, got -1"):
        sampling(n_points=-1)
