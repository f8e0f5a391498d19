import html
import json
import re
from collections.abc import Callable

import numpy as np

from l2reg.reporting.registered_pair import RegisteredPair
from l2reg.reporting.viewer import viewer_html

Shown = Callable[..., RegisteredPair]


def test_names_are_shown_and_not_run(shown: Shown) -> None:
    evil = "'\"><script>alert(1)</script>"
    page = viewer_html(shown(label_names={7: evil}), evil, opened=True)
    assert "<script" not in page
    (view,) = re.findall(r"data-view='([^']*)'", page)
    assert json.loads(html.unescape(view))["labels"] == ["label 2", evil]


def test_there_are_controls_for_what_the_pair_has(shown: Shown) -> None:
    page = viewer_html(shown(), "a", opened=True)
    for part in ("data-overlay='labels' checked", "data-overlay='landmarks'",
                 "data-overlay='grid'>", "next-fold", "next-landmark",
                 "<details class='pair' open>"):  # fmt: skip
        assert part in page
    assert page.count("<canvas role='img' tabindex='0'>") == 3
    none = np.zeros((12, 10, 14), np.int16)
    disp = np.zeros((3, 12, 10, 14), np.float32)
    bare = shown(fixed_labels=none, warped_labels=none, landmarks=None, disp=disp)
    page = viewer_html(bare, "a", opened=False)
    for part in ("data-overlay='la", "next-landmark", "next-fold", "class='pair' open"):
        assert part not in page


def test_labels_that_are_left_out_are_said(shown: Shown) -> None:
    many = np.arange(12 * 10 * 14).reshape(12, 10, 14)
    page = viewer_html(shown(fixed_labels=many % 300, label_names={}), "a", opened=True)
    assert "Only the first 255 of 299 labels are outlined." in page
    assert "labels are outlined" not in viewer_html(shown(), "a", opened=True)
