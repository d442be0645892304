"""The command as a person meets it: help, version, errors, exit codes."""

import importlib.metadata
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

import gmm.curve
from paper_figures import cli
from paper_figures.commands import options

HELP = Path(__file__).with_name("help")
# Checked files: run `COLUMNS=80 speciation [COMMAND] --help > tests/paper_figures/help/NAME.txt` after a change.
HELP_FILES = (
    "speciation",
    "figures",
    "sweep",
    "data",
    "guidance",
    "compare",
    "window",
    "check",
    "models",
    "models-list",
    "models-classes",
    "models-partitions",
    "sample",
    "show",
    "explore",
    "train",
    "weights",
    "weights-list",
    "weights-fetch",
    "weights-convert",
    "weights-check",
)


@pytest.mark.parametrize("name", HELP_FILES)
def test_help_is_the_checked_text(name, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert cli.run([*name.replace("-", " ").removeprefix("speciation").split(), "--help"]) == 0
    # Layout is the library's; the words are ours.
    assert capsys.readouterr().out.split() == (HELP / f"{name}.txt").read_text().split()


def test_no_arguments_show_the_help(capsys):
    assert cli.run([]) == 0
    assert "Usage: speciation" in capsys.readouterr().out


def test_version(capsys):
    assert cli.run(["--version"]) == 0
    assert capsys.readouterr().out.strip() == f"speciation {importlib.metadata.version('speciation')}"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("figurs", "No such command 'figurs'. Did you mean 'figures'?"),
        ("figures --axis noise", "'noise' is not one of 't', 'log-snr', 'sigma', 'timestep'"),
        ("figures --units hartleys", "'hartleys' is not one of 'nats', 'bits'"),
        ("figures --seed -1 --dry-run", "seed must be in 0..2^63-1, got -1"),
        ("figures --seed x", "--seed"),
        ("figures --only", "--only"),
        ("figures --only four-point --dry-run", "did you mean 'four-points'?"),
        ("figures --frobnicate", "--frobnicate"),
        ("figures extra", "extra"),
        ("show", "Missing argument 'FILE'"),
        ("show missing.nc", "no such file: missing.nc"),
        ("weights", "Missing command"),
        ("weights fetsh", "No such command 'fetsh'"),
        ("weights fetch", "Missing argument 'NAME'"),
        ("weights fetch edm3", "NAME must be one of edm2-xs, sd15, sd-vae-ft-mse, "),
        ("weights check missing.pkl", "no such file: missing.pkl"),
        ("weights convert a.pkl b.pkl", "FILE.safetensors must end in .safetensors, got b.pkl"),
    ],
)
def test_bad_input_is_one_line_and_code_2(line, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.run(line.split()) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("speciation: ")
    assert captured.err.count("\n") == 1
    assert message in captured.err
    assert captured.out == ""
    assert list(tmp_path.iterdir()) == []


def test_interruption_is_code_130(monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("paper_figures.commands.figures.Settings", interrupted)
    assert cli.run(["figures", "--dry-run"]) == 130


def test_options_know_what_curves_know():
    assert get_args(options.AxisName) == gmm.curve.AXES
    assert get_args(options.UnitsName) == gmm.curve.UNITS


def test_help_and_errors_do_not_wait_for_jax():
    code = (
        "import sys; from paper_figures import cli; "
        "assert cli.run(['figures', '--help']) == 0; assert cli.run(['figures', '--only', 'x']) == 2; "
        "print(sorted({'jax', 'xarray', 'matplotlib', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_installed_command_ends_with_its_exit_code():
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from paper_figures.cli import main; sys.argv[1:] = ['nonsense']; main()",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("speciation: No such command 'nonsense'")
    assert "Traceback" not in done.stderr


def test_a_warning_is_one_line(capsys):
    cli._warn(UserWarning("a prompt\nis cut"), UserWarning, "file.py", 3)
    assert capsys.readouterr().err == "speciation: warning: a prompt is cut\n"
