"""The prepared run for accelerators, rehearsed in miniature."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import accelerator

ROOT = Path(__file__).parents[2]


def rehearse(out, *words):
    command = [sys.executable, "-m", "benchmarks", "accelerator", "--rehearse", "--out", str(out), *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout, json.loads(out.read_text())


@pytest.mark.slow
def test_every_part_ends_in_miniature(tmp_path):
    shown, table = rehearse(tmp_path / "table.json", "--minutes", "6", "--weights", str(tmp_path / "trained"))
    assert table["format"] == accelerator.FORMAT
    assert table["rehearsal"]
    assert [row for row in table["rows"] if "error" in row] == []
    assert {row["part"] for row in table["rows"]} == {part.name for part in accelerator.PARTS}
    assert all(row["value"] >= 0 and row["unit"] for row in table["rows"])
    assert (tmp_path / "trained" / "model.safetensors").exists()
    assert "needs: " in shown


def test_a_part_without_time_says_so(tmp_path):
    shown, table = rehearse(tmp_path / "table.json", "--minutes", "0.01", "--parts", "machine", "window")
    assert [(row["part"], row["error"]) for row in table["rows"]] == [
        ("machine", "no time was left"),
        ("window", "no time was left"),
    ]
    assert "window: not started: no time was left" in shown


def test_a_part_that_hangs_is_stopped_and_the_next_one_runs(tmp_path):
    _, table = rehearse(tmp_path / "table.json", "--minutes", "0.2", "--parts", "machine")
    (row,) = [row for row in table["rows"] if "error" in row]
    assert row["what"] == "not finished"
    assert row["error"].startswith("stopped after")


def test_requirements_are_those_of_the_project():
    assert {"jax", "numpy", "xarray", "scikit-learn"} <= set(accelerator.requirements())
