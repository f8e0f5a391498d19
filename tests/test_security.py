"""What SECURITY.md promises: files are data, whoever wrote them."""

import ast
import io
import os
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from l2reg.config.build import build
from l2reg.config.presets import load_preset
from l2reg.data.cache import Cache
from l2reg.data.pair_lists import read_csv, read_json
from l2reg.data.pairs import Pair, Scan
from l2reg.data.task import Task
from l2reg.evaluation.pair_scores import PairScores
from l2reg.evaluation.score_submissions import ZERO_FIELD, SubmissionScores
from l2reg.problems import InputError
from l2reg.reporting.registered_pair import RegisteredPair
from l2reg.reporting.report import write_report
from l2reg.submission.bundle import join_bundles, open_submission
from l2reg.submission.fields import read_field, read_full_field
from l2reg.submission.format_check import check_submission
from l2reg.submission.numbering import pair_names
from l2reg.submission.rules import RULES

ROOT = Path(__file__).parents[1]
SOURCES = [
    *ROOT.glob("*.py"),
    *(
        p
        for room in ("l2reg", "docker", "examples", "benchmarks")
        for p in (ROOT / room).rglob("*.py")
    ),
]
LUNG: Task = build(load_preset("task", "lung"))


def calls(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the name of every call in a file, with its keyword arguments."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            keywords = {word.arg or "**": ast.unparse(word.value) for word in node.keywords}
            yield ast.unparse(node.func), keywords


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_is_unpickled_unpacked_or_run(path: Path) -> None:
    for name, keywords in calls(path):
        last = name.split(".")[-1]
        assert name not in ("eval", "exec", "os.system", "yaml.load", "yaml.unsafe_load"), name
        assert last not in ("extract", "extractall", "unpack_archive"), name
        assert not name.startswith(("pickle.", "marshal.", "shelve.", "joblib.", "tarfile.")), name
        assert keywords.get("shell", "False") == "False", name
        assert keywords.get("allow_pickle", "False") == "False", name
        if name == "torch.load":
            assert keywords.get("weights_only") == "True"
        if name == "np.load":
            assert "allow_pickle" in keywords


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("owned",)


def pickled() -> np.ndarray:
    return np.array([Evil()], dtype=object)


@pytest.mark.parametrize("read", [read_field, read_full_field])
def test_a_submitted_array_is_never_unpickled(read: Callable[..., np.ndarray]) -> None:
    file = io.BytesIO()
    np.savez(file, pickled())
    with pytest.raises(InputError, match="cannot be read as npz"):
        read(file.getvalue(), "disp_0001_0001.npz", (8, 6, 10))
    assert not Path("owned").exists()


def test_a_cached_array_is_never_unpickled(tmp_path: Path) -> None:
    source, cache = tmp_path / "scan.nii.gz", Cache(tmp_path / "cache")
    source.write_bytes(b"voxels")
    cache.get(source, {}, lambda: np.zeros(3))
    (entry,) = (tmp_path / "cache").iterdir()
    np.save(entry, pickled())
    assert cache.get(source, {}, lambda: np.ones(3)).tolist() == [1, 1, 1]  # computed anew
    assert not Path("owned").exists()


def test_the_members_of_a_zip_lead_nowhere(tmp_path: Path) -> None:
    scan = Scan(id=1, official_id=1, modality="CT", image=Path("x"), labels=None, mask=None)
    pair, rules = Pair(fixed=scan, moving=scan), RULES["2021"]
    file = io.BytesIO()
    np.savez(file, np.zeros((3, 96, 96, 104), np.float16))
    inner = tmp_path / "inner"
    inner.mkdir()
    with zipfile.ZipFile(inner / "bad.zip", "w") as archive:
        for name in ("../../evil.txt", "/evil.txt", "../task_02/disp_0002_0002.npz",
                     "../../x/task_02/disp_0001_0001.npz", "..\\\\evil.txt"):  # fmt: skip
            archive.writestr(name, file.getvalue())
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    opened = open_submission(inner / "bad.zip", LUNG, [pair], rules)
    assert opened.content(pair) == file.getvalue()
    check_submission(inner / "bad.zip", LUNG, pair_names([pair], LUNG, rules), rules)
    join_bundles([inner / "bad.zip"], inner / "joined.zip")
    with zipfile.ZipFile(inner / "joined.zip") as archive:
        names = archive.namelist()
    assert names == ["submission/dummy.txt", "submission/task_02/disp_0001_0001.npz",
                     "submission/task_02/disp_0002_0002.npz"]  # fmt: skip
    assert {path for path in tmp_path.rglob("*") if path.is_file()} - before == {
        inner / "joined.zip"
    }


@pytest.mark.parametrize("word", ["../x", "/etc/passwd", "1/../2", "~", "0x1", "$HOME"])
def test_the_ids_of_a_pair_list_are_numbers_and_no_paths(tmp_path: Path, word: str) -> None:
    path = tmp_path / "pairs_val.csv"
    path.write_text(f"fixed, moving\n{word}, 2\n")
    with pytest.raises(InputError, match="has an invalid line"):
        read_csv(path)
    json_path = tmp_path / "LungCT_dataset.json"
    json_path.write_text(f'{{"registration_val": [{{"fixed": "{word}", "moving": "{word}"}}]}}')
    with pytest.raises(InputError, match="cannot be read as a list of pairs"):
        read_json(json_path, "registration_val")


def test_of_a_path_in_a_dataset_json_only_the_number_counts(tmp_path: Path) -> None:
    path = tmp_path / "LungCT_dataset.json"
    name = "../../elsewhere/LungCT_0001_0000.nii.gz"
    path.write_text(f'{{"registration_val": [{{"fixed": "{name}", "moving": "{name}"}}]}}')
    assert read_json(path, "registration_val") == [(1, 1)]


def test_a_report_shows_names_and_does_not_run_them(
    tmp_path: Path, pair_scores: Callable[..., PairScores]
) -> None:
    evil = "<script>alert('1')</script><img src=x onerror=\"alert(2)\">"
    scores = [pair_scores(evil), pair_scores("0001_0001")]
    scored = {
        ZERO_FIELD: SubmissionScores(scores),
        evil: SubmissionScores(scores, [evil], notes=[evil]),
    }
    path = tmp_path / "report.html"
    empty = np.zeros((4, 5, 6))
    images = dict.fromkeys(("fixed", "moving", "warped"), empty)
    labels = {"fixed_labels": np.ones((4, 5, 6), int), "warped_labels": np.ones((4, 5, 6), int)}
    pair = RegisteredPair(**images, **labels, disp=np.zeros((3, 4, 5, 6)), spacing_mm=(1, 1, 1),
                          label_names={1: evil})  # fmt: skip
    write_report(path, evil, scored, [(evil, pair)], LUNG, RULES["2021"], {evil: evil})
    page = path.read_text()
    assert page.count("<script") == 1  # that of the viewer
    assert "<img src=x" not in page
    assert page.count("&lt;script&gt;") >= 7  # title, headline, notes, tables, pictures
