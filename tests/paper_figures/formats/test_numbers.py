"""Numbers kept in a dataset, and how they are shown."""

import math

import pytest
import xarray as xr

from paper_figures.formats.numbers import attach, number, numbers_of, percent, up_to


def test_numbers_survive_the_file(tmp_path):
    given = [number("a", 1.5, 0.25, expected=1), number("b", math.pi), number("ρ ± 1", -2, expected=None)]
    attach(xr.Dataset(), given).to_netcdf(tmp_path / "x.nc", engine="h5netcdf")
    assert numbers_of(xr.load_dataset(tmp_path / "x.nc", engine="h5netcdf")) == given


def test_dataset_without_numbers():
    assert numbers_of(xr.Dataset()) == []


@pytest.mark.parametrize(
    ("value", "stderr", "shown"),
    [
        (0.5, None, "0.5"),
        (1234567.0, None, "1.23457e+06"),
        (1.23456, 0.0123, "1.235 ± 0.012"),
        (123.456, 12.0, "123 ± 12"),
        (0.5, 1e-17, "0.5 ± <1e-09"),
        (0.5, 0.0, "0.5 ± <1e-09"),
        (0.5, math.nan, "0.5 ± ?"),
        (1234.5678, math.inf, "1235 ± ?"),
        (math.nan, None, "none"),
    ],
)
def test_shown_with_the_digits_it_carries(value, stderr, shown):
    assert number("x", value, stderr).shown == shown


def test_expected_is_shown_when_there_is_one():
    assert number("x", 1, expected=0.774).shown_expected == "0.774"
    assert number("x", 1).shown_expected == ""


def test_short_form_holds_the_error_in_its_last_digit():
    assert number("", 0.50034, 0.00019).short == "0.5003(2)"
    assert number("", 1.234, 0.056).short == "1.23(6)"
    assert number("", 0.5, 1e-12).short == "0.5000(1)"
    assert number("", 0.5).short == "0.5000(0)"
    assert number("", 120.0, 3.0).short == "120(3)"
    assert number("", 0.5, math.nan).short == "0.5000(?)"


def test_unknown_errors_are_question_marks():
    assert percent(0.25, 0.01) == "25.0% ± 1.0%"
    assert percent(0.25, math.nan) == "25.0% ± ?"
    assert up_to([0.1, 0.02], "nats") == "0.1 nats"
    assert up_to([0.1, math.nan], "nats") == "0.1 nats; unknown at 1 of 2 points"
    assert up_to([0.0, math.nan], "nats") == "none; unknown at 1 of 2 points"
    assert up_to([math.nan], "nats") == "unknown"
