from __future__ import annotations

import pytest

from fedrobust.aggregation.tolerance import AssumedByzantine
from fedrobust.errors import UserError


def test_assumed_f_is_a_third_the_rules_largest_or_as_given() -> None:
    rule = AssumedByzantine("rule", None, lambda n: (n - 3) // 2, "n >= 2f + 3")
    assert [rule.at(n)[0] for n in (1, 3, 4, 5, 9, 10, 30)] == [0, 0, 0, 1, 3, 3, 10]
    rule.check(1)
    given = AssumedByzantine("rule", 3, lambda n: (n - 3) // 2, "n >= 2f + 3")
    assert given.at(9) == (3, None)
    assert given.at(8) == (2, ["only 8 replied: f=2 instead of 3"] * 8)
    given.check(9)
    with pytest.raises(
        UserError,
        match=r"rule: f=3 does not fit 8 hospitals, as the rule needs n >= 2f \+ 3; give f=2 or less",
    ):
        given.check(8)
    with pytest.raises(UserError, match=r"needs n >= 2f \+ 3; give f=0, or ask more hospitals$"):
        given.check(2)
