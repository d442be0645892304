"""Questions to one published network, measured row by row; every finished row is kept, and a manifest lists them.

A row's file is named by everything that its numbers follow from. A list of classes or prompts that changes therefore
keeps the rows that are the same.
"""

import contextlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import xarray as xr

from gmm.curve import versions
from gmm.files import alone_in, write_whole
from gmm.fingerprint import fingerprint
from gmm.netcdf import load_whole
from neural.models import Model, load_model
from neural.progress import Progress
from paper_figures.files import save_dataset
from paper_figures.studies import sources
from paper_figures.studies.asked import Asked, questions
from paper_figures.studies.comparison import dataset_of, lines_of
from paper_figures.studies.parts import Parts
from paper_figures.studies.question import Question

FORMAT = "speciation-manifest/1"


class Work(NamedTuple):
    """Where an experiment keeps what is finished, and what it calls on its way.

    Attributes:
        folder: for finished rows, the manifest, and parts of the row at work; None keeps nothing.
        progress: called while trajectories are computed.
    """

    folder: Path | None = None
    progress: Progress | None = None


class Row(NamedTuple):
    """One question, and the name under which its curves are shown."""

    name: str
    question: Question

    @property
    def file(self) -> str:
        """Name of its file, without suffix: a hash of all that its numbers follow from."""
        return fingerprint(self.question.facts())[:20]


def rows_of(asked: Asked, model: Model) -> list[Row]:
    """One row for each question that is asked, named by its decision."""
    return [Row(question.decision.name, question) for question in questions(asked, model)]


def model_for(kind: str, weights: Sequence[str], dtype: str = "float32") -> Model:
    """The network of an experiment, which must be of the kind that the experiment is about.

    Raises:
        ValueError: for a network of another kind, or as `load_model`.
    """
    model = load_model(weights[0], dtype=dtype)
    if model.kind != kind:
        raise ValueError(f"weights must be those of a network of kind {kind}, got {weights[0]}: {model.kind}")
    return model


def measure(rows: Sequence[Row], work: Work) -> list[xr.Dataset]:
    """The curves of every row, as comparisons of one source; rows that are kept are not measured again.

    Raises:
        ValueError: when the folder cannot be written or another process is at work in it.
    """
    folder = work.folder
    store = Parts(folder, ".nc", load_whole, save_dataset)
    write_manifest(folder, rows)

    def compute(number: int, progress: Progress | None) -> xr.Dataset:
        question = rows[number].question
        with chunks_of(folder, rows[number].file) as chunks:
            runs = sources.measure([sources.online(question)], chunks, progress)
        levels = [level.name for level in question.decision.levels]
        return dataset_of(lines_of(runs, question.seed), levels, None, question=question.facts())

    with alone_in(None if jax.process_index() else folder):
        return list(store.each([row.file for row in rows], compute, work.progress))


@contextlib.contextmanager
def chunks_of(folder: Path | None, name: str) -> Iterator[Path | None]:
    """The folder for parts of one row, removed when the row is finished; None where nothing is kept."""
    chunks = None if folder is None else folder / "chunks" / name
    yield chunks
    if chunks is not None:
        shutil.rmtree(chunks, ignore_errors=True)
        with contextlib.suppress(OSError):  # other rows have theirs there
            chunks.parent.rmdir()


def write_manifest(folder: Path | None, rows: Sequence[Row], **more: Any) -> None:
    """Write manifest.json: seeds, sizes and files of all rows of an experiment, and what else it generates."""
    if folder is None or jax.process_index() != 0:
        return
    entries = [{"name": row.name, "file": f"{row.file}.nc", **row.question.facts()} for row in rows]
    text = json.dumps(
        {"format": FORMAT, "rows": entries, **more, "versions": versions()}, indent=1, default=str
    )
    write_whole(folder / "manifest.json", text.encode())


def together(names: Mapping[str, Sequence[xr.Dataset]]) -> xr.Dataset:
    """One comparison of several sources: for each its rows, whose levels follow each other.

    Args:
        names: name of a source -> its rows; every source has rows of the same levels.
    """
    columns = []
    for name, rows in names.items():
        column = xr.concat(rows, dim="level", combine_attrs="drop", join="outer")
        columns.append(column.assign_coords(source=[name]))
    combined = xr.concat(columns, dim="source", combine_attrs="drop", join="outer")
    first = next(iter(names.values()))[0].attrs
    return combined.assign_attrs(format=first["format"], versions=first["versions"], reference="")


def renamed(rows: Sequence[Row], measured: Sequence[xr.Dataset]) -> list[xr.Dataset]:
    """The curves of rows of one level each, with their rows' names as the names of the levels."""
    return [part.assign_coords(level=[row.name]) for row, part in zip(rows, measured, strict=True)]


def facts(model: Model, **more: Any) -> dict[str, str]:
    """Attributes of an experiment's data: the network, and what is guessed of the published set-up."""
    described = {"model": model.name, **model.facts, **more}
    return {name: json.dumps(value, default=str) for name, value in described.items()}
