from l2reg.io.text_columns import align_columns


def test_the_first_column_is_aligned_left_and_the_others_right() -> None:
    assert align_columns([["a", "n"], ["long", "12"], ["b", ""]]) == "a      n\nlong  12\nb"
