"""The tiny published-format networks; ../data/edm2/ORIGIN.md says where they come from."""

from pathlib import Path

import pytest


@pytest.fixture
def data():
    return Path(__file__).parents[1] / "data" / "edm2"
