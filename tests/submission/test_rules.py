import pytest

from l2reg.problems import InputError
from l2reg.submission.rules import RULES, rules_named


def test_rules_are_found_by_name_even_where_yaml_read_a_number() -> None:
    assert rules_named(2021) is rules_named("2021") is RULES["2021"]
    assert rules_named("current").full_resolution


def test_unknown_rules_are_refused_with_those_there_are() -> None:
    with pytest.raises(InputError, match=r"rules=curent: are unknown\n.*2021, current") as error:
        rules_named("curent")
    assert "did you mean 'current'" in str(error.value)
