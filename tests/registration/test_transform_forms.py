import pytest

from l2reg.cli.main import main
from l2reg.registration.transform_forms import FORMS


@pytest.mark.parametrize("command", ["convert", "invert"])
def test_the_help_lists_every_form(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([command, "--help"])
    said = capsys.readouterr().out
    for name, what in FORMS.items():
        assert f"{name:15} {what}" in said
