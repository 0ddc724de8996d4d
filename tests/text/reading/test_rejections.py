"""Rejections up to the limit."""

import pytest

from lib.run.errors import UserError
from lib.text.reading.rejections import Rejections


def test_more_bad_input_than_the_limit_is_an_error():
    rejections = Rejections("x.txt", True, 2)
    rejections.add("nul_byte")
    rejections.add("invalid_utf8")
    with pytest.raises(UserError, match=r"bad_input_limit \(2\) allows: 2 nul_byte, 1 invalid"):
        rejections.add("nul_byte")
