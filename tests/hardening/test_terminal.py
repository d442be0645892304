"""Text from files and prompts: shown as text on terminals of any encoding, drawn letter by letter in pictures."""

import io
import json
import os
import shlex
import subprocess
import sys
import warnings

import numpy as np
import pytest
from matplotlib.figure import Figure

from gmm.curve import EntropyCurve
from paper_figures import cli, terminal
from paper_figures.commands.lists import spread
from paper_figures.drawing.style import literal, save_pictures

NASTY = (
    "\x1b]0;owned\x07",
    "\x1b[2J",
    "[/b]",
    "[bold]x",
    "$\\frac{$",
    "a$b",
    "_hidden",
    "\ud800",
    "\r\b\x00",
    "σ/α 🙂",
)
COMMAND = [sys.executable, "-c", "from paper_figures.cli import main; main()"]


@pytest.fixture
def curve(tmp_path):
    times = np.linspace(0.5, 5, 9)
    path = tmp_path / "curve.nc"
    EntropyCurve(
        t=times, log_snr=-times, entropy=np.tanh(times), entropy_stderr=0 * times, rate=times, rate_stderr=0 * times,
        prior_entropy=2.0, metadata={f"a{text}": text for text in NASTY if text != "\ud800"},
    ).save(path)  # fmt: skip
    return path


def test_facts_of_a_file_reach_the_terminal_as_text(curve, capsys, held):
    assert cli.run(["show", str(curve)]) == 0
    out, _ = capsys.readouterr()
    assert all(letter.isprintable() or letter == "\n" for letter in out)
    for text in ("\\x1b]0;owned\\x07", "\\x1b[2J", "[/b]"):
        assert text in "".join(out.split()).replace("│", "")
    held("terminals", len(NASTY))


@pytest.mark.parametrize("text", NASTY)
def test_errors_reach_the_terminal_as_text(text, capsys, held):
    name = text.replace("\0", "")
    for arguments in (
        ["show", f"{name}.nc"],
        ["compare", "--model", name],
        ["window", "--model", name, "--partition", name],
    ):
        assert cli.run([*arguments, "--dry-run"] if arguments[0] != "show" else arguments) == 2
        out, said = capsys.readouterr()
        assert len(said.splitlines()) <= 2
        assert all(letter.isprintable() or letter == "\n" for letter in out + said)
    held("terminals")


def test_streams_escape_and_consoles_do_not():
    raw = io.StringIO()
    stream = terminal._Printable(raw)
    print("a\x1b[2Jb\tc\nd", file=stream)
    assert raw.getvalue() == "a\\x1b[2Jb\tc\nd\n"
    assert stream.encoding is raw.encoding
    assert terminal.cell("a\x1b[31m\n") == "a\\x1b[31m\n"


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "latin-1"])
def test_narrow_encodings_lose_no_answer(encoding, curve, held):
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run([*COMMAND, "show", curve], env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert b"entropy" in done.stdout
    assert curve.with_suffix(".png").exists()
    held("encodings")


def test_a_notebooks_backend_and_a_platform_that_is_not_there(curve, tmp_path, held):
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\nbackend: tkagg\n")
    environment = {
        **os.environ,
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "MATPLOTLIBRC": str(tmp_path),
    }
    done = subprocess.run([*COMMAND, "show", curve], env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    environment = {**os.environ, "JAX_PLATFORMS": "cuda"}
    command = [*COMMAND, "sweep", "--dims", "10", "--points", "40", "--out", tmp_path / "a.nc"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stderr.splitlines()[-1] == (
        "speciation: JAX has no platform 'cuda' here, but JAX_PLATFORMS is set to it; unset it or name another"
    )
    held("environments", 2)


@pytest.mark.parametrize("text", NASTY)
def test_text_is_drawn_letter_by_letter(text, tmp_path, held):
    def draw():
        figure = Figure(figsize=(2, 2))
        ax = figure.subplots()
        ax.plot([0, 1], label=literal(text))
        ax.set_title(rf"$\bf{{a}}$  entropy: {literal(text)}")
        assert ax.get_legend_handles_labels()[1] == [literal(text)]
        ax.legend()
        return figure

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        save_pictures(draw, [tmp_path / "a.png", tmp_path / "a.pdf"])
    held("text in pictures")


def test_prompts_may_begin_with_a_dash():
    prompts = ["--prompts", "-a cat", "- a dog", "--a bird, too"]
    assert spread([*prompts, "--seed", "1"], {"--prompts"}) == [
        "--prompts", "-a cat", "--prompts", "- a dog", "--prompts", "--a bird, too", "--seed", "1",
    ]  # fmt: skip
    assert spread(["--prompts=-a b", "c"], {"--prompts"}) == ["--prompts=-a b", "--prompts", "c"]


def test_schemas_escape_what_files_hold(tmp_path):
    from gmm.guidance_specs import load_guidance

    path = tmp_path / "a.json"
    path.write_text(json.dumps({"format": "\x1b[2J", "schedules": []}))
    with pytest.raises(ValueError, match=r"got '.x1b\[2J'"):
        load_guidance(path)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_lose_no_result(closed, curve, held):
    line = shlex.join([*COMMAND, "show", str(curve)])
    done = subprocess.run(["sh", "-c", f"{line} {closed}"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert curve.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    held("environments")
