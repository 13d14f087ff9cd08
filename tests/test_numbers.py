"""Numbers in texts."""

import pytest

from cellpatch.runtime.numbers import rounded


@pytest.mark.parametrize(
    ("value", "digits", "expected"),
    [
        (1000, 3, "1000"),
        (1140.2, 3, "1140"),
        (123456, 3, "123000"),
        (120.4, 2, "120"),
        (0.054049, 3, "0.054"),
        (1e-5, 3, "0.00001"),
        (0, 3, "0"),
        (12.0, 3, "12"),
        (-1.005e4, 3, "-10000"),
    ],
)
def test_no_power_of_ten(value: float, digits: int, expected: str) -> None:
    assert rounded(value, digits) == expected
