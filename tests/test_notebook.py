"""The notebook of the documentation, cell by cell in this process."""

import json
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_the_quick_start_runs_as_it_stands(capsys: pytest.CaptureFixture[str]) -> None:
    cells = json.loads((ROOT / "docs/quick_start.ipynb").read_text())["cells"]
    names: dict[str, object] = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), cell["id"], "exec"), names)
            assert cell["outputs"] == []  # outputs are made when the site is built
    scores = names["result"].scores  # type: ignore[attr-defined]
    assert scores["after"].mean_dice > scores["before"].mean_dice + 0.1
    np.testing.assert_allclose(names["back"], names["middle"], atol=0.1)  # type: ignore[arg-type]
    assert "How it was made" in Path("report.html").read_text()
    assert Path("fnirt.nii.gz").is_file()
