"""What guidance does to a published network's decision: entropy, information and cross-entropy by schedule."""

import json
from collections.abc import Callable, Sequence

import jax
import xarray as xr

from gmm.files import alone_in
from gmm.fingerprint import fingerprint
from gmm.netcdf import load_whole
from neural.models import Model
from neural.progress import Progress
from paper_figures.files import save_dataset
from paper_figures.formats.numbers import attach
from paper_figures.studies import guidance
from paper_figures.studies.comparison import dataset_of, numbers, saved_line
from paper_figures.studies.experiment import Row, Work, chunks_of, facts, write_manifest
from paper_figures.studies.parts import Parts
from paper_figures.studies.plan import Cost, Plan, model_or_stand_in, network_of


def cost(row: Row, schedules: Sequence[str]) -> Cost:
    """What all schedules of a row cost: every class and the network without a class, at each step of each path."""
    question, count = row.question, guidance.count(schedules)
    evaluations = question.samples * question.steps * (len(question.decision.conditions) + 1)
    return Cost(row.name, count, question.samples, count * evaluations)


def plan(weights: str, rows: Callable[[Model], Sequence[Row]], schedules: Sequence[str]) -> Plan:
    """What an experiment with a network costs; `rows` gives its rows for the network or one of its sizes."""
    return Plan(network_of(weights), [cost(row, schedules) for row in rows(model_or_stand_in(weights))])


def compute(model: Model, rows: Sequence[Row], schedules: Sequence[str], work: Work) -> xr.Dataset:
    """The curves of all rows under every schedule: levels are rows, sources are schedules."""
    measured = measure(rows, schedules, work)
    dataset = xr.concat(measured, dim="level", combine_attrs="drop_conflicts", join="outer")
    dataset = dataset.assign_attrs(facts(model))
    return attach(dataset, numbers(dataset))


def measure(rows: Sequence[Row], schedules: Sequence[str], work: Work) -> list[xr.Dataset]:
    """For each row the curves under every schedule, as a comparison of one source for each; finished rows are kept."""
    folder = work.folder
    write_manifest(folder, rows)
    store = Parts(folder, ".nc", load_whole, save_dataset)

    def compute_row(number: int, progress: Progress | None) -> xr.Dataset:
        question = rows[number].question
        guidance.check(question, None, schedules)
        with chunks_of(folder, names[number]) as chunks:
            measured = guidance.measure(question, None, schedules, chunks, progress)
        lines = {guided.name: [saved_line(guided.curve)] for guided in measured}
        weights = {guided.name: guided.weight.tolist() for guided in measured}
        return dataset_of(
            lines, [rows[number].name], guidance.PLAIN, question=question.facts(), weights=weights
        )

    names = [f"{row.file}-{fingerprint(json.dumps(list(schedules)))[:8]}" for row in rows]
    with alone_in(None if jax.process_index() else folder):
        return list(store.each(names, compute_row, work.progress))
