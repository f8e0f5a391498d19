import pytest

from l2reg.problems import InputError
from l2reg.submission.rules import RULES, rules_by_name


def test_rules_are_found_by_name_even_where_yaml_read_a_number() -> None:
    assert rules_by_name(2021) is rules_by_name("2021") is RULES["2021"]
    assert rules_by_name("current").full_resolution


def test_unknown_rules_are_refused_with_those_there_are() -> None:
    with pytest.raises(InputError, match=r"rules=curent: are unknown\n.*2021, current") as error:
        rules_by_name("curent")
    assert "did you mean 'current'" in str(error.value)
