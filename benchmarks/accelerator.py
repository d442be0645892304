"""Everything that needs an accelerator, in one prepared run: the most valuable part first, results as they come.

    python -m benchmarks accelerator [--minutes 8] [--out accelerator.json] [--rehearse] [--parts NAME ...]
        [--data DIR] [--weights DIR] [--wheels DIR] [--fetch-wheels DIR]

Each part is a process of its own with its own limit of time, so that one that fails or hangs costs no other part its
turn. After each result the file is written anew: `rows`, each with `part`, `what`, `value`, `unit` and what it was
measured for (`dtype`, `batch`). A part that did not end has a row with `error`.

`--rehearse` runs every part in miniature, on a CPU too. `--data` names a folder with Fashion-MNIST for the training
that fills what time is left, `--weights` where to put what it trained. On a machine without a network: collect what is
missing there with `--fetch-wheels DIR` elsewhere, and install it with `--wheels DIR`.
"""

import argparse
import importlib.metadata
import json
import os
import re
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
FORMAT = "speciation-accelerator/1"
OPTIONAL = ("torch", "diffusers", "transformers")  # the peers; without them ours runs alone
ON_MACHINES_WITH_ACCELERATORS = ("jax", "jaxlib", "numpy", "torch", "safetensors", "xarray", "h5netcdf")
ENDING_SECONDS = 10  # kept back from the last part, for its process to end

Row = dict[str, Any]


class Part(NamedTuple):
    """A part of the run: its name in `accelerator_parts`, and its share of the time."""

    name: str
    share: float


PARTS = (
    Part("machine", 0.05),
    Part("parity", 0.2),
    Part("forward", 0.3),
    Part("attention", 0.05),
    Part("mixtures", 0.1),
    Part("window", 0.1),
    Part("training", 1.0),  # whatever is left
)


def run() -> None:
    """The whole run with its defaults."""
    main([])


def main(arguments: Sequence[str]) -> None:
    """Parse the command line, and run the parts in turn."""
    chosen = _parser().parse_args(arguments)
    if chosen.fetch_wheels:
        fetch(chosen.fetch_wheels)
        return
    end = time.monotonic() + 60 * chosen.minutes
    missing = [name for name in (*requirements(), *OPTIONAL) if not _installed(name)]
    print(f"needs: {', '.join(requirements())}; as peers: {', '.join(OPTIONAL)}", flush=True)
    print(f"missing: {', '.join(missing) or 'nothing'}", flush=True)
    environment = _with_wheels(chosen.wheels) if chosen.wheels else dict(os.environ)
    rows: list[Row] = []
    for part in PARTS:
        if chosen.parts and part.name not in chosen.parts:
            continue
        left = end - time.monotonic() - ENDING_SECONDS
        limit = min(left, part.share * 60 * chosen.minutes)
        for row in _rows(part.name, limit, chosen, environment):
            rows.append({"part": part.name, **row})
            print(_line(rows[-1]), flush=True)
            _write(chosen.out, rows, chosen.rehearse)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks accelerator",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=float, default=8.0, help="the whole run, training included")
    parser.add_argument("--out", type=Path, default=Path("accelerator.json"), metavar="FILE.json")
    parser.add_argument("--rehearse", action="store_true", help="everything in miniature, on any device")
    parser.add_argument("--parts", nargs="+", choices=[part.name for part in PARTS], metavar="NAME")
    parser.add_argument("--data", type=Path, metavar="DIR", help="Fashion-MNIST; else the digits are learned")
    parser.add_argument("--weights", type=Path, default=Path("trained"), metavar="DIR")
    parser.add_argument("--wheels", type=Path, metavar="DIR", help="install what is missing from this folder")
    parser.add_argument("--fetch-wheels", type=Path, metavar="DIR", help="only download into this folder")
    return parser


def requirements() -> list[str]:
    """What the project needs to run, by the names of its distributions."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [re.split(r"[<>=\[ ]", line)[0] for line in project["dependencies"]]


def fetch(folder: Path) -> None:
    """Download what a machine with an accelerator is not expected to have, with all that it needs."""
    wanted = [name for name in requirements() if name not in ON_MACHINES_WITH_ACCELERATORS]
    _pip("download", "--only-binary", ":all:", "--dest", str(folder), *wanted)
    for wheel in folder.glob("*.whl"):
        if _distribution(wheel) in ON_MACHINES_WITH_ACCELERATORS:
            wheel.unlink()


def _distribution(wheel: Path) -> str:
    return wheel.name.split("-")[0].replace("_", "-").lower()


def _installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _pip(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", "--disable-pip-version-check", *words], check=True)


def _with_wheels(wheels: Path) -> dict[str, str]:
    """The environment of the parts: what is missing is installed beside the wheels, nothing else is touched.

    Each wheel by itself: with what they need, a JAX for CPUs would come along and hide the machine's own.
    """
    place = wheels / "installed"
    wanted = [str(wheel) for wheel in sorted(wheels.glob("*.whl")) if not _installed(_distribution(wheel))]
    if wanted:
        _pip("install", "--no-index", "--no-deps", "--upgrade", "--target", str(place), *wanted)
    paths = [str(place.resolve()), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def _rows(name: str, limit: float, chosen: argparse.Namespace, environment: dict[str, str]) -> Iterator[Row]:
    """The results of one part as it prints them, and a last one that says why it did not end, if it did not."""
    if limit <= 0:
        yield {"what": "not started", "error": "no time was left"}
        return
    command = [sys.executable, "-m", "benchmarks.accelerator_parts", name, "--seconds", f"{limit:.0f}"]
    command += ["--rehearse"] if chosen.rehearse else []
    command += ["--data", str(chosen.data)] if chosen.data else []
    command += ["--weights", str(chosen.weights.resolve())]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        said: list[str] = []
        listener = threading.Thread(target=lambda: said.extend(process.stderr or ()), daemon=True)
        listener.start()
        timer = threading.Timer(limit, process.kill)
        timer.start()
        for line in process.stdout or ():
            if line.startswith("{"):
                yield json.loads(line)
        late = not timer.is_alive()
        timer.cancel()
        code = process.wait()
        listener.join()
    if code:
        reason = f"stopped after {limit:.0f} s" if late else "".join(said[-1:]).strip() or f"exit code {code}"
        yield {"what": "not finished", "error": reason}


def _line(row: Row) -> str:
    about = ", ".join(f"{key} {row[key]}" for key in ("dtype", "batch") if key in row)
    result = row.get("error") or f"{row['value']:.4g} {row['unit']}"
    return f"{row['part']}: {row['what']}{f' ({about})' if about else ''}: {result}"


def _write(path: Path, rows: Sequence[Row], rehearsal: bool) -> None:
    """Write the file aside and rename it: it is whole at any moment."""
    aside = path.with_name(f".{path.name}.partial")
    contents = {"format": FORMAT, "rehearsal": rehearsal, "rows": list(rows)}
    aside.write_text(json.dumps(contents, indent=1) + "\n", encoding="utf-8")
    aside.replace(path)
