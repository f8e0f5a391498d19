import errno
import io
import sys
from pathlib import Path

import pytest

from l2reg.problems import InputError, Problem, check_seed_value, exit_on_input_error, raise_if_any

ONE = Problem(where="a.csv", what="has a fault", expected="this", found="that", remedy="mend it")
TWO = Problem(
    where="b.csv", what="has another", expected="these", found="those", remedy="mend it too"
)


def test_a_problem_says_where_what_expected_found_and_remedy() -> None:
    assert str(ONE) == "a.csv: has a fault\n  expected  this\n  found     that\n  remedy    mend it"


def test_all_problems_are_shown_at_once() -> None:
    with pytest.raises(InputError, match=r"(?s)a\.csv.*b\.csv") as error:
        raise_if_any([ONE, TWO])
    assert error.value.problems == (ONE, TWO)


def test_no_problem_no_error() -> None:
    raise_if_any([])
    assert InputError(ONE).problems == (ONE,)


def test_the_message_is_printed_without_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop, exit_on_input_error():
        raise InputError(ONE)
    assert str(stop.value.code).startswith("error: a.csv: has a fault")


def test_a_full_disk_ends_the_program_without_a_traceback() -> None:
    with pytest.raises(SystemExit, match="the disk is full"), exit_on_input_error():
        Path("/dev/full").write_text("x")


@pytest.mark.parametrize(
    ("path", "words"),
    [("nothing", "no such file"), (".", "is a folder"), ("file/below", "is not a folder"),
     ("/proc/self/mem/x", "is not a folder"), ("x" * 300, "too long a name")],
)  # fmt: skip
def test_a_file_that_cannot_be_used_is_named_without_a_traceback(path: str, words: str) -> None:
    Path("file").touch()
    with pytest.raises(SystemExit, match=f"{path}: .*{words}"), exit_on_input_error():
        Path(path).read_text()


def test_ctrl_c_ends_the_program_with_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop, exit_on_input_error():
        raise KeyboardInterrupt
    assert stop.value.code == 130
    assert capsys.readouterr().err == "interrupted\n"


@pytest.mark.parametrize("seed", [-1, 2**32, 1.0, "1", None, True])
def test_a_seed_is_an_integer_of_32_bits(seed: object) -> None:
    check_seed_value("seed", 0)
    check_seed_value("seed", 2**32 - 1)
    with pytest.raises(InputError, match=f"seed={seed}: is no random seed"):
        check_seed_value("seed", seed)


def test_other_errors_keep_their_traceback() -> None:
    for error in (KeyError("a bug"), OSError(errno.EIO, "strange")):
        with pytest.raises(type(error)), exit_on_input_error():
            raise error


def test_a_line_reaches_a_log_file_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(file))
    with exit_on_input_error():
        sys.stdout.write("step 1\n")
        assert file.getvalue() == b"step 1\n"


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.EMFILE, "too many files are open"), (errno.EFBIG, "larger than allowed")],
)
def test_a_limit_of_the_system_is_named_without_a_traceback(number: int, words: str) -> None:
    with pytest.raises(SystemExit, match=f"a.nii: .*{words}"), exit_on_input_error():
        raise OSError(number, "x", "a.nii")
