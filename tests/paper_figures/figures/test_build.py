"""Figures on disk: reuse, settings, interruption, and files that are never half written."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
import types
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure as Picture

from paper_figures import cli
from paper_figures.commands import figures as command
from paper_figures.figures import page, registry
from paper_figures.figures.build import in_order
from paper_figures.figures.job import Job
from paper_figures.figures.registry import Figure
from paper_figures.figures.settings import Settings
from paper_figures.files import ensure_writable
from paper_figures.formats.numbers import attach, number


def _compute(settings):
    settings_size = settings.size(20, 5)
    data = xr.Dataset({"y": ("x", np.arange(float(settings_size)) + settings.seed)})
    return attach(data, [number("largest y", data.y.max(), 0.5, expected=19)])


def _draw(dataset, view):
    picture = Picture(figsize=(2, 1))
    picture.subplots().plot(dataset.y)
    return picture


@pytest.fixture
def two_figures(monkeypatch):
    """A registry of two tiny figures, "one" and "two"; yields what is called, in order."""
    calls = []
    module = types.ModuleType("paper_figures.figures.tiny")
    module.CAPTION = "A line,\n    drawn."
    module.compute = lambda settings: calls.append(f"compute {settings.stream}") or _compute(settings)
    module.draw = lambda dataset, view: calls.append("draw") or _draw(dataset, view)
    monkeypatch.setitem(sys.modules, "paper_figures.figures.tiny", module)
    table = {
        name: Figure(name, "tiny", "a <line>", seed=seed, version="1", seconds=7, fast_seconds=2)
        for name, seed in (("one", 1), ("two", 2))
    }
    monkeypatch.setattr(command, "MOST_JOBS", 1)  # another process knows no patches
    for user in (registry, command, page):
        monkeypatch.setattr(user, "FIGURES", table)
    return types.SimpleNamespace(calls=calls, module=module, table=table)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_each_figure_leaves_picture_data_and_page(two_figures, tmp_path, capsys):
    assert cli.run(["figures", "--out", str(tmp_path / "deep" / "er")]) == 0
    folder = tmp_path / "deep" / "er"
    assert names(folder) == sorted(
        ["index.html"] + [f"{n}.{s}" for n in ("one", "two") for s in ("html", "nc", "pdf", "png")]
    )
    page = (folder / "index.html").read_text()
    for text in (
        'src="one.png"',
        'href="two.pdf"',
        'href="two.nc"',
        'href="two.html"',
        "A line, drawn.",
        "19.00 ± 0.50",
        "A &lt;line&gt;.",
    ):
        assert text in page
    assert "one: computed" in capsys.readouterr().out


def test_the_page_links_the_explorer_where_it_lies_beside_the_figures(two_figures, tmp_path):
    assert cli.run(["figures", "--out", str(tmp_path), "--only", "one"]) == 0
    assert "explorer" not in (tmp_path / "index.html").read_text()
    assert cli.run(["explore", "--out", str(tmp_path / "explorer.html")]) == 0
    assert cli.run(["figures", "--out", str(tmp_path), "--only", "one"]) == 0
    assert 'href="explorer.html"' in (tmp_path / "index.html").read_text()


def test_second_run_computes_nothing_and_says_so(two_figures, tmp_path, capsys):
    cli.run(["figures", "--out", str(tmp_path)])
    data = (tmp_path / "one.nc").read_bytes()
    two_figures.module.compute = lambda settings: pytest.fail("computed again")
    (tmp_path / "one.png").unlink()
    capsys.readouterr()
    assert cli.run(["figures", "--out", str(tmp_path), "--units", "bits"]) == 0
    assert "one: data reused from" in capsys.readouterr().out
    assert (tmp_path / "one.nc").read_bytes() == data
    assert (tmp_path / "one.png").exists()


@pytest.mark.parametrize("option", [["--seed", "1"], ["--dtype", "float32"]])
def test_other_settings_compute_again(two_figures, tmp_path, option):
    cli.run(["figures", "--out", str(tmp_path)])
    two_figures.calls.clear()
    cli.run(["figures", "--out", str(tmp_path), *option])
    assert two_figures.calls == ["compute 1", "draw", "compute 2", "draw"]


def test_raised_version_computes_that_figure_again(two_figures, tmp_path):
    cli.run(["figures", "--out", str(tmp_path)])
    two_figures.calls.clear()
    two_figures.table["two"] = dataclasses.replace(two_figures.table["two"], version="2")
    cli.run(["figures", "--out", str(tmp_path)])
    assert two_figures.calls == ["draw", "compute 2", "draw"]


def test_damaged_data_are_computed_again(two_figures, tmp_path):
    cli.run(["figures", "--out", str(tmp_path)])
    (tmp_path / "two.nc").write_bytes(b"not NetCDF")
    two_figures.calls.clear()
    with pytest.warns(UserWarning, match="damaged") as warned:
        cli.run(["figures", "--out", str(tmp_path)])
    assert two_figures.calls == ["draw", "compute 2", "draw"]
    said = [str(one.message) for one in warned]
    assert any("two.nc is damaged or of another version; it is computed again" in line for line in said)
    assert any("two.nc is damaged; the page leaves it out" in line for line in said)
    assert "two.png" in (tmp_path / "index.html").read_text()


def test_fast_results_have_names_of_their_own(two_figures, tmp_path, monkeypatch):
    cli.run(["figures", "--out", str(tmp_path)])
    full = (tmp_path / "one.nc").read_bytes()
    cli.run(["figures", "--out", str(tmp_path), "--fast", "--only", "one"])
    assert (tmp_path / "one.nc").read_bytes() == full
    assert {"one-fast.nc", "one-fast.png", "one-fast.pdf"} <= set(names(tmp_path))
    page = (tmp_path / "index.html").read_text()
    assert page.index("one.png") < page.index("Quick versions") < page.index("one-fast.png")
    monkeypatch.chdir(tmp_path)
    cli.run(["figures", "--fast", "--only", "one"])
    assert "one-fast.nc" in names(tmp_path / "figures-fast")


def test_only_takes_several_names(two_figures, tmp_path):
    assert cli.run(["figures", "--out", str(tmp_path), "--only", "two", "one", "two"]) == 0
    assert two_figures.calls == ["compute 2", "draw", "compute 1", "draw"]


def test_cheapest_figure_is_made_first(two_figures, tmp_path):
    costs = {"one": 5, "two": 2, "three": 9, "four": 7}
    jobs = [
        Job(dataclasses.replace(two_figures.table["one"], name=name, seconds=seconds), Settings(), tmp_path)
        for name, seconds in costs.items()
    ]
    order = [[job.figure.name for job in in_order(jobs, workers)] for workers in (1, 2)]
    assert order == [["two", "one", "four", "three"], ["two", "three", "four", "one"]]


def test_figures_that_cost_much_are_made_by_name_only(two_figures, tmp_path):
    two_figures.table["two"] = dataclasses.replace(two_figures.table["two"], by_default=False)
    cli.run(["figures", "--out", str(tmp_path)])
    assert "two.nc" not in names(tmp_path)
    cli.run(["figures", "--out", str(tmp_path), "--only", "two"])
    assert "two.nc" in names(tmp_path)


def test_dry_run_prints_cost_and_makes_nothing(two_figures, tmp_path, capsys):
    assert cli.run(["figures", "--out", str(tmp_path / "none"), "--dry-run"]) == 0
    assert "about 14 s" in capsys.readouterr().out
    assert not (tmp_path / "none").exists()
    cli.run(["figures", "--out", str(tmp_path), "--only", "one"])
    capsys.readouterr()
    cli.run(["figures", "--out", str(tmp_path), "--dry-run"])
    out = capsys.readouterr().out
    assert "about 7 s" in out
    assert "on disk" in out


def test_unknown_figure_is_one_line_with_the_nearest_name(two_figures, tmp_path, capsys):
    assert cli.run(["figures", "--out", str(tmp_path / "none"), "--only", "tow"]) == 2
    error = capsys.readouterr().err
    assert (
        error == "speciation: --only must list known names, got 'tow'; did you mean 'two'? known: one, two\n"
    )
    assert not (tmp_path / "none").exists()


def test_folder_that_cannot_be_written_is_refused_before_computing(two_figures, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert cli.run(["figures", "--out", str(tmp_path / "file" / "sub")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("speciation: --out must be a folder that can be written, got ")
    assert error.count("\n") == 1
    assert two_figures.calls == []


def test_error_while_computing_keeps_its_traceback(two_figures, tmp_path):
    def broken(settings):
        raise ValueError("a bug")

    two_figures.module.compute = broken
    with pytest.raises(RuntimeError, match="figure one could not be made: a bug"):
        cli.run(["figures", "--out", str(tmp_path)])
    assert names(tmp_path) == []


def test_interruption_keeps_what_is_finished(two_figures, tmp_path, capsys):
    def interrupted(settings):
        if settings.stream == 2:
            raise KeyboardInterrupt
        return _compute(settings)

    two_figures.module.compute = interrupted
    assert cli.run(["figures", "--out", str(tmp_path)]) == 130
    assert "interrupted; what is finished stays in" in capsys.readouterr().err
    assert names(tmp_path) == ["index.html", "one.html", "one.nc", "one.pdf", "one.png"]


def test_failure_while_writing_leaves_the_old_file(two_figures, tmp_path, monkeypatch):
    job = Job(two_figures.table["one"], Settings(), tmp_path)
    job.save(_compute(Settings()))
    before = job.path(".nc").read_bytes()

    def fail(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(xr.Dataset, "to_netcdf", fail)
    with pytest.raises(OSError, match="disk full"):
        job.save(_compute(Settings(seed=3)))
    assert job.path(".nc").read_bytes() == before
    assert names(tmp_path) == ["one.nc"]


def test_data_carry_what_made_them(two_figures, tmp_path):
    job = Job(two_figures.table["one"], Settings(seed=5, stream=1), tmp_path)
    written = job.save(_compute(job.settings))
    read = job.load()
    assert read is not None
    assert read.identical(written)
    assert read.attrs["figure"] == "one"
    assert json.loads(read.attrs["settings"]) == {"fast": False, "seed": 5, "dtype": "float64", "stream": 1}
    assert "version_jax" in json.loads(read.attrs["versions"])


def test_fingerprint_tells_everything_apart():
    def fingerprint(name="one", version="1", **settings):
        figure = Figure(name, "tiny", "a line", seed=1, version=version, seconds=7, fast_seconds=2)
        return Job(figure, Settings(**settings), Path()).fingerprint

    changes = (
        ("name", "two"),
        ("version", "2"),
        ("fast", True),
        ("seed", 1),
        ("dtype", "float32"),
        ("stream", 1),
    )
    prints = {fingerprint(), *(fingerprint(**{name: value}) for name, value in changes)}
    assert len(prints) == 1 + len(changes)
    assert fingerprint() == fingerprint()


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_seed_outside_jax_range_is_refused(seed):
    with pytest.raises(ValueError, match=f"seed must be in 0..2\\^63-1, got {seed}"):
        Settings(seed=seed)


def test_keys_differ_by_seed_and_stream():
    import jax

    keys = [Settings(seed=a, stream=b).key() for a in (0, 1) for b in (0, 1)]
    assert len({tuple(jax.random.key_data(key).tolist()) for key in keys}) == 4


def test_ensure_writable_creates_and_leaves_nothing(tmp_path):
    ensure_writable(tmp_path / "a" / "b")
    assert names(tmp_path / "a" / "b") == []


# A run of two figures whose second never ends, as its own process that can be killed.
STUCK = """
import sys, time, types
from paper_figures import cli
from paper_figures.commands import figures as command
from paper_figures.figures import page, registry
sys.path.insert(0, {tests!r})
from test_build import _compute, _draw

def compute(settings):
    if settings.stream == 2 and {stuck}:
        print("stuck", flush=True)
        time.sleep(600)
    print("compute", settings.stream, flush=True)
    return _compute(settings)

module = types.ModuleType("paper_figures.figures.tiny")
module.CAPTION, module.compute, module.draw = "", compute, _draw
sys.modules["paper_figures.figures.tiny"] = module
for user in (registry, command, page):
    user.FIGURES = {{
        name: registry.Figure(name, "tiny", "line", seed=seed, version="1", seconds=1, fast_seconds=1)
        for name, seed in (("one", 1), ("two", 2))
    }}
command.MOST_JOBS = 1
sys.exit(cli.run(["figures", "--out", {out!r}]))
"""


def _script(out, stuck):
    text = STUCK.format(tests=os.path.dirname(__file__), stuck=stuck, out=str(out))
    return [sys.executable, "-c", textwrap.dedent(text)]


@pytest.mark.slow
@pytest.mark.parametrize(("with_signal", "code"), [(signal.SIGKILL, -9), (signal.SIGINT, 130)])
def test_killed_run_goes_on_where_it_was(tmp_path, with_signal, code):
    with subprocess.Popen(
        _script(tmp_path, True), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as run:
        assert run.stdout is not None
        for line in run.stdout:
            if line == "stuck\n":
                break
        time.sleep(0.1)
        run.send_signal(with_signal)
        assert run.wait(timeout=60) == code
    assert {"one.nc", "one.png", "one.pdf"} <= set(names(tmp_path))
    assert "two.nc" not in names(tmp_path)
    again = subprocess.run(_script(tmp_path, False), capture_output=True, text=True, check=True, timeout=120)
    assert "one: data reused" in again.stdout
    assert "compute 1" not in again.stdout
    assert "compute 2" in again.stdout
    assert not [name for name in names(tmp_path) if name.startswith(".")]


def _children(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in found.split()]


def _gone(pid: int) -> bool:
    """Whether a process has ended, though perhaps nobody has asked how."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")")[-1].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="children are listed by Linux")
@pytest.mark.parametrize(("with_signal", "code"), [(signal.SIGKILL, -9), (signal.SIGINT, 130)])
def test_several_processes_end_with_their_parent_and_lose_nothing_finished(tmp_path, with_signal, code):
    line = "import sys; from paper_figures import cli; sys.exit(cli.run(sys.argv[1:]))"
    chosen = ["class-count", "log-time-vp", "trees"]
    words = ["figures", "--fast", "--jobs", "2", "--out", str(tmp_path), "--only", *chosen]
    command = [sys.executable, "-c", line, *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        assert run.stderr is not None
        # The first line says where the page will be, before the workers are there.
        finished = next(line for line in run.stdout if ": computed" in line).split(":")[0]
        workers = _children(run.pid)
        run.send_signal(with_signal)
        assert run.wait(timeout=60) == code
        assert "Traceback" not in run.stderr.read()
    assert len(workers) >= 2
    deadline = time.monotonic() + 60
    while not all(map(_gone, workers)):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert f"{finished}-fast.nc" in names(tmp_path)
    again = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    assert f"{finished}: data reused" in again.stdout
