import subprocess
import sys
from pathlib import Path

import pytest

from l2reg.io.output_folders import OutputKind, claim_output_folder
from l2reg.problems import InputError

RUN, PREDICTION = OutputKind.RUN, OutputKind.PREDICTION


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A finished run with seven files."""
    folder = tmp_path / "run"
    claim_output_folder(folder, RUN, overwrite=False)
    (folder / "tensorboard").mkdir()
    for name in ("a", "b", "c", "d", "e", "tensorboard/f"):
        (folder / name).write_text("result")
    return folder


def test_a_new_or_empty_folder_is_marked(tmp_path: Path) -> None:
    claim_output_folder(tmp_path / "new/folder", RUN, overwrite=False)
    (tmp_path / "empty").mkdir()
    claim_output_folder(tmp_path / "empty", RUN, overwrite=True)
    for name in ("new/folder", "empty"):
        assert [path.name for path in (tmp_path / name).iterdir()] == [".l2reg_run"]


def test_an_existing_folder_asks_for_overwrite_and_is_then_emptied(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "mine.txt").write_text("mine")
    (run / "linked").symlink_to(outside)
    with pytest.raises(InputError, match="overwrite=true to delete this one"):
        claim_output_folder(run, RUN, overwrite=False)
    assert (run / "a").exists()
    claim_output_folder(run, RUN, overwrite=True)
    said = capsys.readouterr().out.splitlines()
    assert said == [f"overwriting {run}: deleting a, b, c, d, e and 2 more"]
    assert [path.name for path in run.iterdir()] == [RUN]
    assert (outside / "mine.txt").exists()


@pytest.mark.parametrize("also", [None, "config.yaml", PREDICTION])
def test_a_folder_without_the_marker_of_its_kind_is_never_deleted(
    tmp_path: Path, also: str | None
) -> None:
    folder = tmp_path / "holiday"
    folder.mkdir()
    (folder / "photo.jpg").write_text("x")
    if also:
        (folder / also).touch()
    with pytest.raises(InputError, match=r"has no \.l2reg_run") as error:
        claim_output_folder(folder, RUN, overwrite=True)
    assert ("remove this one yourself" in str(error.value)) is (also != PREDICTION)
    assert (folder / "photo.jpg").exists()


@pytest.mark.parametrize("where", [".", "a", "tensorboard/f"])
def test_a_folder_that_is_needed_is_never_deleted(run: Path, tmp_path: Path, where: str) -> None:
    link = tmp_path / "link"
    link.symlink_to(run)
    for needed in (run / where, link / where):
        for folder in (run, link):
            with pytest.raises(InputError, match="is not deleted: it is needed"):
                claim_output_folder(folder, RUN, overwrite=True, inputs=[tmp_path, needed])
    assert (run / "tensorboard/f").exists()


@pytest.mark.parametrize("where", [".", "tensorboard"])
def test_the_working_folder_is_never_deleted(
    run: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.chdir(run / where)
    with pytest.raises(InputError, match="is not deleted: it is needed"):
        claim_output_folder(run, RUN, overwrite=True)
    assert (run / "a").exists()


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file/below"):
        with pytest.raises(InputError, match="cannot be written"):
            claim_output_folder(path, RUN, overwrite=True)


@pytest.mark.parametrize("overwrite", [False, True])
def test_one_process_has_a_folder_and_another_is_refused_until_it_ends(
    run: Path, tmp_path: Path, overwrite: bool
) -> None:
    del run  # held by this process
    code = """if True:
        import sys
        from pathlib import Path
        from l2reg.io.output_folders import OutputKind, claim_output_folder
        for name in sys.argv[1:]:
            claim_output_folder(Path(name), OutputKind.RUN, overwrite=True)
        print("held", flush=True)
        sys.stdin.read()"""
    other = tmp_path / "other"
    command = [sys.executable, "-c", code, str(other)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"held\n"
            with pytest.raises(InputError, match="being written by another process"):
                claim_output_folder(other, RUN, overwrite=overwrite)
        finally:
            process.kill()
    claim_output_folder(other, RUN, overwrite=True)
    claim_output_folder(other, RUN, overwrite=True)
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "run")],
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert "being written by another process" in done.stderr
