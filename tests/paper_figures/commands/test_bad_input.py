"""What commands refuse: one line on standard error that names the option, exit code 2, and no file."""

import pytest

from tests.paper_figures.asked import run

# The messages of each command by its options.
REFUSED = {
    "data": [
        ("--data nowhere --out o", "data must be 'digits', a .npz file"),
        ("--data digits", "--out must name the folder"),
        ("--data digits --levels 3 --out o", "levels must be >= 16"),
        ("--data digits --samples 1 --out o", "samples must be >= 2"),
        ("--data digits --memory-limit 0.1 --out o", "above the memory limit of 0.1 GiB"),
        ("--data digits --memory-limit -1 --out o", "--memory-limit must be positive"),
        ("--data digits --split test --out o", "split test exists in folders of IDX files only"),
    ],
    "sweep": [
        ("--dims x --out a.nc", "--dims must list"),
        ("--dims 0 --out a.nc", "--dims must list whole numbers from 1 to 9.2e+18, got 0"),
        ("--dims 1e300 --out a.nc", "to 9.2e+18, got 100000000000..."),
        (f"--dims 1{400 * '0'} --out a.nc", "to 9.2e+18, got 100000000000..."),
        (
            "--dims 10 --classes 1 --out a.nc",
            "--classes must list whole numbers from 2 to 9.2e+18, got 1",
        ),
        ("--dims 10 --process vq --out a.nc", "process must be"),
        ("--dims 10 --prior 2 --out a.nc", "prior must list 'uniform' or probabilities"),
        (
            "--dims 10 --variance -1 --out a.nc",
            "--variance must list 0 or numbers from 1e-100 to 1e+100, got -1",
        ),
        (
            "--dims 10 --separation 1e200 --out a.nc",
            "separation must list numbers from 1e-100 to 1e+100, got 1e+200",
        ),
        ("--dims 10 --family tree --out a.nc", "branching must be given for a tree"),
        ("--dims 10 --family tree --branching 2x --out a.nc", "branching must list shapes such as 2x5x10"),
        ("--dims 10 --family pair --classes 3 --out a.nc", "classes must be 2 for a pair"),
        ("--dims 10", "--out must name the NetCDF file"),
        ("--dims 10 --out a.txt", "out must be a file that ends in .nc"),
        ("--dims 1e6 --classes 1000 --method full --out a.nc", "GiB, above the memory limit of 4 GiB"),
        ("--dims 1e6 --points 3 --out a.nc", "points must be >= 16"),
    ],
    "train": [
        ("", "give either --data or --family"),
        ("--data digits --family pair", "give either --data or --family"),
        ("--family tree", "give --branching, such as 2x2x2"),
        (
            "--family tree --branching 2xx2y",
            "--branching must list shapes such as 2x5x10",
        ),
        (
            "--family tree --branching 2x2 --energies 1,a",
            "--energies must list finite numbers",
        ),
        ("--family tree --branching 2x2 --classes 5", "its 4 leaves, got 5"),
        ("--family pair --classes 3", "classes must be 2 for a pair"),
        ("--family simplex --classes 9 --dim 4", "9"),
        ("--family pair --width 0", "width must be a whole number >= 1"),
        ("--family pair --label-dropout 1", "--label-dropout must be between 0 and 1"),
        ("--family pair --steps 0", "--steps"),
        ("--data digits --patch 3", "patch must divide the sides"),
        ("--data digits --channels 32,32,32,32,64", "must be square and divisible by 16"),
        ("--data digits --channels 20", "channels must be multiples of 32"),
        ("--data digits --held-out 5000", "--held-out must leave points on both sides of 1797, got 5000"),
        ("--data nowhere", "'nowhere'"),
    ],
}


@pytest.mark.parametrize(
    ("command", "options", "message"),
    [(command, *case) for command, cases in REFUSED.items() for case in cases],
)
def test_bad_input_is_one_line_and_leaves_nothing(command, options, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert message in run(capsys, command, *options.split(), code=2)
    assert list(tmp_path.iterdir()) == []
