"""What tests of refused input share."""

import pytest


def check_refused(case):
    """The call raises a ValueError with the message; `case` is the two."""
    call, message = case
    with pytest.raises(ValueError, match=message):
        call()
