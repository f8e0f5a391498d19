import io

import pytest

from l2reg.registration.progress import progress_bar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_the_stage_and_how_much_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    with progress_bar() as begin:
        begin("reading scans")
        begin("finding the start")
        begin("registering")
    shown = [text for text in terminal.getvalue().split("\r") if text.strip()]
    assert shown[-1].startswith("registering (40 % done, 00:00 since the start, about ")
    assert any(text.startswith("finding the start (15 % done") for text in shown)


def test_a_file_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.StringIO()
    monkeypatch.setattr("sys.stderr", file)
    with progress_bar() as begin:
        begin("writing")
    assert file.getvalue() == ""
