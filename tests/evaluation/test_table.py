from l2reg.evaluation.evaluate import PairScores
from l2reg.evaluation.table import score_table


def test_one_pair_has_no_spread_and_columns_line_up() -> None:
    one = PairScores("0001_0001", {}, {}, [2.0], 0.05, 0.0, (0.9, 1.1))
    head, row = score_table({"a long name": [one]}).splitlines()
    assert "±" not in row
    assert row.split() == ["a", "long", "name", "2.000", "0.0500", "0.0000"]
    assert head.index("TRE mm") + len("TRE mm") == row.index("2.000") + len("2.000")
