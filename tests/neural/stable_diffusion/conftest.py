"""Golden answers and a model of reduced size; ../data/sd15/ is made by make_golden.py."""

from pathlib import Path

import numpy as np
import pytest

from neural import load_sd15
from tests.neural.stable_diffusion import folders

DATA = Path(__file__).parents[1] / "data" / "sd15"


@pytest.fixture(scope="session")
def golden():
    with np.load(DATA / "golden.npz") as file:
        return {key: file[key] for key in file.files}


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return folders.write_folder(tmp_path_factory.mktemp("sd15") / "tiny")


@pytest.fixture(scope="session")
def model(folder):
    return load_sd15(folder)
