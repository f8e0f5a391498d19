"""A sample of the campaign ``benchmarks/faults/mutated_files.py``."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.faults.file_kinds import tables, volumes
from benchmarks.faults.guard import CLEAR, FAULTS, RIGHT, Outcome, guarded, outcome
from benchmarks.faults.kinds import Kind, tiny_config, write_tiny_data
from benchmarks.faults.mutated_files import mutate
from benchmarks.faults.submission_kinds import submissions
from l2reg.config.build import build
from l2reg.data.dataset import Dataset
from l2reg.problems import InputError, Problem

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")  # fork
ROOT = Path(__file__).parents[2]
CASES = 12  # of each kind


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> list[Kind]:
    folder = tmp_path_factory.mktemp("sound")
    data = write_tiny_data(folder / "root")
    config = tiny_config(f"data.root={folder / 'root'}")
    dataset: Dataset = build(config["data"], task=build(config["task"]))
    (pair,) = dataset.split_pairs("val")
    return [*volumes(dataset, pair), *tables(data, dataset), *submissions(pair, dataset)]


def read(kind: Kind, content: bytes, folder: Path) -> Outcome:
    folder.mkdir()
    path = folder / kind.file
    path.write_bytes(content)
    return outcome(lambda: kind.read(path), kind.name_in_errors)


@pytest.mark.filterwarnings("ignore")  # of NumPy, for numbers that no scan has
def test_a_mutated_file_is_read_right_or_is_named_by_the_error(
    kinds: list[Kind], tmp_path: Path
) -> None:
    for number, kind in enumerate(kinds):
        sound = read(kind, kind.content, tmp_path / f"{number}")
        assert sound.kind == (CLEAR if "transform" in kind.name or "affine" in kind.name else RIGHT)
        for seed in range(CASES):
            content, is_blind = mutate(kind, seed)
            found = read(kind, content, tmp_path / f"{number}_{seed}")
            assert found.kind in (RIGHT, CLEAR), (kind.name, seed, found.text)
            if found.kind == RIGHT and kind.is_checked and is_blind:
                assert found.text == sound.text, (kind.name, seed)


@pytest.mark.slow
def test_the_campaign_finds_no_fault(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.faults.mutated_files", "--count", "200"]
    done = subprocess.run(
        [*command, "--out", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    (total,) = [line for line in done.stdout.splitlines() if line.startswith("| all |")]
    _, _, right, clear, *faults, _ = total.split("|")
    assert int(right) + int(clear) == 200
    assert set(map(int, faults)) == {0}


def hang() -> str:
    while True:
        pass


def fill_memory() -> str:
    return str(len(bytearray(2**33)))


def fail() -> str:
    raise KeyError("x")


def refuse() -> str:
    raise InputError(Problem(where="a.csv", what="is bad", expected="", found="", remedy=""))


def test_the_campaign_tells_faults_from_clear_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.faults.guard.SECONDS", 1)
    found = [guarded(job, "a.csv").kind for job in (hang, fill_memory, fail, refuse, str)]
    assert found == ["hang", "memory", "traceback", CLEAR, RIGHT]
    assert guarded(refuse, "b.csv").kind == "names no file"
    assert set(found[:3]) < set(FAULTS)
