import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from l2reg.data.dataset import Dataset
from l2reg.inference.method import Method
from l2reg.inference.predict_split import PredictionJob, predict_split
from l2reg.inference.prediction_page import prediction_details, write_prediction_page
from l2reg.inference.predictor import Predictor
from l2reg.models.zero import Zero
from l2reg.phantom.make import phantom_task
from l2reg.submission.rules import RULES


def test_a_prediction_has_a_page_of_its_scores_pairs_and_origin(
    phantoms: dict[str, Path],
    open_data: Callable[..., Dataset],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = open_data(phantom_task("lung", "small", 0, 3, root=phantoms["lung"]))
    predictor = Predictor(Method(Zero("half")), data.reader)
    pairs = data.split_pairs("val")
    notes = ["trained on 3 of 3 pairs <really>"]
    job = PredictionJob(predictor, pairs, tmp_path, RULES["2021"], notes)
    done = predict_split(predictor, pairs, tmp_path, [], job.rules, notes)
    monkeypatch.setattr(sys, "argv", ["l2reg", "ckpt=runs/<a>"])
    details = prediction_details({"ckpt": "runs/<a>"})
    write_prediction_page(tmp_path / "a.html", job, done, "val", details)
    page = (tmp_path / "a.html").read_text()
    error = f"{np.mean(done.scores['submission'].pairs[0].tre_mm):.3f}"
    for words in (f"{error} → {error}", f"Pair {pairs[0].name}", "&lt;really&gt;", "runs/&lt;a&gt;",
                  "<dd>l2reg predict "):  # fmt: skip
        assert words in page
