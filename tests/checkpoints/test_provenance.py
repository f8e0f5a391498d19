from pathlib import Path

from l2reg.checkpoints.provenance import Provenance


def test_a_run_without_a_parent_comes_from_nowhere() -> None:
    assert Provenance.of_run({}) == Provenance()
    assert Provenance().merge_trained_on({"a": "image"}) == {"a": "image"}


def test_a_chain_of_runs_is_stored_oldest_first() -> None:
    first = {"step": 5, "trained_on": {"a": "image"}, "chosen_on": ["v"]}
    second = Provenance.from_parent(Path("first.pt"), first)
    state = {
        "step": 7,
        "trained_on": second.merge_trained_on({"b": "supervised"}),
        "chosen_on": ["w"],
        "origin": second.as_dict(),
    }
    third = Provenance.from_parent(Path("second.pt"), state)
    assert third.started_from == ["first.pt (step 5)", "second.pt (step 7)"]
    assert third.trained_on == {"a": "image", "b": "supervised"}
    assert third.selected_on == ["v", "w"]
    assert Provenance.of_run({"origin": third.as_dict()}) == third


def test_an_image_that_was_supervised_once_stays_so() -> None:
    provenance = Provenance(trained_on={"a": "supervised", "b": "image"})
    merged = provenance.merge_trained_on({"a": "image", "b": "supervised"}, {"c": "image"})
    assert merged == {"a": "supervised", "b": "supervised", "c": "image"}
