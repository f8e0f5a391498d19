"""The commands of ``tools/``, and that what they wrote is not out of date."""

import importlib
import re
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT)
    return importlib.import_module(f"tools.{request.param}")


def constraints() -> dict[str, str]:
    text = (ROOT / "constraints.txt").read_text()
    return dict(re.findall(r"^([\w.-]+)==(\S+)$", text, re.MULTILINE))


def test_the_hashed_constraints_are_the_constraints_without_pytorch() -> None:
    text = (ROOT / "constraints-hashed.txt").read_text()
    hashed = re.findall(r"^(\S+)==(\S+) \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)",
                        text, re.MULTILINE)  # fmt: skip
    expected = constraints()
    del expected["torch"]
    assert {name: version for name, version, _ in hashed} == expected


def test_every_constraint_has_a_licence() -> None:
    rows = (ROOT / "docs/licences.md").read_text().splitlines()
    stated = [row.strip("| ").split(" | ") for row in rows if row.count(" | ") == 2][1:]
    assert {name: version for name, version, _ in stated} == constraints()
    assert "not stated" not in str(stated)


@pytest.mark.parametrize("tool", ["licences"], indirect=True)
def test_a_licence_is_the_expression_or_the_classifier_or_the_first_line(tool: ModuleType) -> None:
    from email.message import Message  # noqa: PLC0415

    package = Message()
    assert tool.licence(package) == "not stated"
    package["License"] = "ISC\nPermission to use"
    assert tool.licence(package) == "ISC"
    package["Classifier"] = "Topic :: Scientific/Engineering"
    package["Classifier"] = "License :: OSI Approved :: MIT License"
    assert tool.licence(package) == "MIT License"
    package["License-Expression"] = "MIT"
    assert tool.licence(package) == "MIT"


@pytest.mark.parametrize("tool", ["matrix"], indirect=True)
def test_every_dependency_has_a_lowest_version(tool: ModuleType, tmp_path: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lowest = tool.lowest_versions(ROOT / "pyproject.toml")
    tests = project["optional-dependencies"]["test"]
    assert len(lowest) == len(project["dependencies"]) + len(tests)
    for requirement in [*project["dependencies"], *tests]:
        assert any(
            requirement.startswith((f"{name}>={version}", f"{name}=={version}"))
            for name, version in lowest.items()
        )
    (tmp_path / "pyproject.toml").write_text(
        '[project]\ndependencies = ["numpy"]\noptional-dependencies = {test = []}\n'
    )
    with pytest.raises(SystemExit, match="numpy has no lowest version"):
        tool.lowest_versions(tmp_path / "pyproject.toml")


@pytest.mark.parametrize("tool", ["matrix"], indirect=True)
def test_only_interpreters_that_start_are_cells_and_the_oldest_takes_the_lowest_versions(
    tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "python3.99"
    broken.write_text("#!/bin/sh\nexit 127\n")
    broken.chmod(0o755)
    cells = tool.installed_cells([str(tmp_path / "missing"), str(broken), sys.executable])
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert [cell.name for cell in cells] == [f"{version}-pinned", f"{version}-lowest"]
    assert capsys.readouterr().out.count("not installed") == 2


@pytest.mark.parametrize("tool", ["train_for"], indirect=True)
def test_training_for_a_time_takes_the_steps_that_fit(tool: ModuleType) -> None:
    pace = tool.Pace(start=20.0, step=0.1, validation=6.0)
    assert pace.steps_in(480, 0) == int((0.94 * 480 - 26) / 0.1)
    assert pace.steps_in(480, 500) == int((0.94 * 480 - 26) / (0.1 + 6 / 500))
    assert pace.steps_in(1, 0) == 1


@pytest.mark.parametrize("tool", ["train_for"], indirect=True)
def test_the_trial_of_a_training_is_measured_step_by_step(tool: ModuleType, tmp_path: Path) -> None:
    metrics = tmp_path / "metrics.jsonl"
    code = (
        "import sys, time\n"
        "time.sleep(0.2)\n"
        "for n in range(24):\n"
        "    with open(sys.argv[1], 'a') as file: print('{\"train/loss\": 1}', file=file)\n"
        "    time.sleep(0.02)\n"
    )
    pace = tool.measure([sys.executable, "-c", code, str(metrics)], metrics)
    assert 0.01 < pace.step < 0.2
    assert pace.start > 0.1
