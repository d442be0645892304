"""Curves of trained networks, measured once and shipped: training and measuring them takes too long for a figure.

    python -m paper_figures.shipped.measure law|tree|digits|fashion|guided-digits|guided-tree [--out FILE.nc]

makes them again; each file names its command, its seed and the versions it was made with.
"""

import argparse
import functools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import xarray as xr

import gmm
from gmm.curve import EntropyCurve, load_dataset, versions
from gmm.datasets import LabelledData
from gmm.landmarks import half_entropy, landmarks
from gmm.pooling import pool, read_off
from neural.estimators import gap_entropy, online_entropy
from neural.families import FamilySpec
from neural.models import Model, load_model
from paper_figures.files import save_dataset
from paper_figures.formats.curves import stack
from paper_figures.shipped import guided, law
from theory import speciation_time, tree_curves

FOLDER = Path(__file__).parent
FORMAT = "speciation-measured/1"
RUNS = 4
# Of a run on the tree. The gap's sampling error is the larger one: it adds up along a path.
ONLINE_PATHS, GAP_PATHS = 384, 1536
EXACT, SURROGATE = "exact (data points)", "Gaussian surrogate"
ONLINE, GAP = "trained, online posterior", "trained, denoiser gap"
ESTIMATORS = (ONLINE, GAP)


def load(name: str) -> xr.Dataset:
    """A shipped result."""
    return load_dataset(FOLDER / f"{name}.nc")


# ---------------------------------------------------------------------------------------------------- the law


def measure_law(seed: int, folder: Path) -> xr.Dataset:
    """Half-entropy times of networks over dimensions and class counts, beside the exact ones."""
    cells, exact = [], []
    for dim, classes in law.cells():
        time = float(speciation_time(gmm.vp(), dim, classes=classes, criterion="half-entropy"))
        half_rho = dim * np.exp(-2 * time)
        cells.append(law.learned(dim, classes, half_rho, seed=seed, folder=folder))
        exact.append(time)
    curves = [pool(cell.runs) for cell in cells]
    times = [read_off(cell.runs, _half_time) for cell in cells]
    names = [f"d={cell.dim}, K={cell.classes}" for cell in cells]
    dataset = stack(curves, "cell", names)
    return dataset.assign(
        dim=("cell", [cell.dim for cell in cells]),
        classes=("cell", [cell.classes for cell in cells]),
        t_half=("cell", [float(t.value[0]) for t in times]),
        t_half_stderr=("cell", [float(t.stderr[0]) for t in times]),
        exact_t_half=("cell", exact),
        gap=("cell", [cell.gap for cell in cells]),
    ).assign_attrs(
        steps=law.STEPS, batch=law.BATCH, width=law.WIDTH, depth=law.DEPTH, paths=law.PATHS * law.RUNS
    )


def _half_time(curve: EntropyCurve) -> np.ndarray:
    """OU time at which half of the entropy is left: σ²/α² = e^{2t} - 1."""
    return np.array([0.5 * np.log1p(np.exp(2 * half_entropy(curve).value))])


# --------------------------------------------------------------------------------------------------- the tree


def measure_tree(seed: int, _folder: Path) -> xr.Dataset:
    """Every level of the tree network by both estimators, its landmarks with errors, and the exact ones."""
    model, key = load_model("zoo:tree"), jax.random.key(seed)
    spec = family_of(model)
    assert model.mixture is not None
    times = np.geomspace(model.grid.sigma_max, 0.1, 96)
    partitions = list(model.levels.values())
    runs, gaps = [], []
    for part in jax.random.split(key, RUNS):
        ask = {"partition": partitions, "key": part, "times": times}
        runs.append(online_entropy(model.denoiser, model.denoiser.conditions, samples=ONLINE_PATHS, **ask))
        x0, labels = gmm.sample(model.mixture, jax.random.fold_in(part, 1), GAP_PATHS)
        data = np.asarray(x0), np.asarray(labels)
        gaps.append(gap_entropy(model.denoiser, model.denoiser.conditions, data=data, **ask))
        print(f"{len(runs)} of {RUNS} runs measured")
    parts = []
    for level, name in enumerate(model.levels):
        of_level = [[run[level] for run in runs_of_level] for runs_of_level in (runs, gaps)]
        readings = [read_off(runs_of_level, landmarks) for runs_of_level in of_level]
        part = stack([pool(runs_of_level) for runs_of_level in of_level], "estimator", ESTIMATORS).assign(
            landmark=(("estimator", "place"), np.stack([r.value for r in readings])),
            landmark_stderr=(("estimator", "place"), np.stack([r.stderr for r in readings])),
            exact_landmark=("place", landmarks(exact_tree(spec, times)[level])),
        )
        parts.append(part.assign_coords(level=name))
    return xr.concat(parts, "level")  # type: ignore[return-value]


def family_of(model: Model) -> FamilySpec:
    """The mixture that a model says it was trained on."""
    return FamilySpec.from_dict(model.facts["family"])


def exact_tree(spec: FamilySpec, times: np.ndarray) -> list[EntropyCurve]:
    """Quadrature of every level of a tree family."""
    gram = gmm.families.tree_gram(spec.branching, spec.energies or None)
    scale = spec.dim * spec.separation**2 * len(gram) / np.trace(gram)
    energies = scale * np.asarray(spec.energies or [1.0] * len(spec.branching))
    return tree_curves(gmm.edm(), times, spec.branching, energies, variance=spec.variance)


# ------------------------------------------------------------------------------------------------------ images


def measure_images(name: str, paths: int, levels: int, points: int) -> Callable[..., xr.Dataset]:
    """A measurement of an image network: the data's exact curve, a Gaussian surrogate's, and the network's."""

    def measure(seed: int, _folder: Path) -> xr.Dataset:
        model, key = load_model(f"zoo:{name}"), jax.random.key(seed)
        assert model.data is not None
        data = model.data()
        curves = _data_curves(data, np.geomspace(20.0, 0.1, levels), key, points)
        print("data measured")
        times = np.geomspace(40.0, 0.1, 48)
        sampling = {"key": key, "samples": paths, "times": times}
        states = data.x.reshape(-1, *model.shape)
        curves[ONLINE] = online_entropy(model.denoiser, model.denoiser.conditions, **sampling)
        print("online posterior measured")
        curves[GAP] = gap_entropy(
            model.denoiser, model.denoiser.conditions, data=(states, data.y), **sampling
        )
        return xr.merge(
            [stack([c], f"curve{i}", [n], prefix=f"c{i}_") for i, (n, c) in enumerate(curves.items())]
        ).assign_attrs(curves=json.dumps(list(curves)), points=len(data.x))

    return measure


def _data_curves(data: LabelledData, times: np.ndarray, key: Any, points: int) -> dict[str, EntropyCurve]:
    empirical, partition = gmm.families.empirical(data.x, data.y)
    fitted, classes = gmm.families.fitted(data.x, data.y, covariance="full")
    ask = {"key": key, "samples": points}
    return {
        EXACT: gmm.class_entropy(empirical, gmm.edm(), times, partition=partition, **ask),
        SURROGATE: gmm.class_entropy(fitted, gmm.edm(), times, partition=classes, **ask),
    }


MEASURES: dict[str, Callable[..., xr.Dataset]] = {
    "law": measure_law,
    "tree": measure_tree,
    "digits": measure_images("digits", 1024, 40, 2048),
    "fashion": measure_images("fashion", 256, 24, 256),
    **{f"guided-{name}": functools.partial(guided.measure, name) for name in guided.NAMES},
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and write one of them."""
    parser = argparse.ArgumentParser("python -m paper_figures.shipped.measure", description=__doc__)
    parser.add_argument("name", choices=list(MEASURES))
    parser.add_argument("--out", type=Path, help="default: the shipped file")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path("measured-parts"), help="where runs are kept")
    asked = parser.parse_args(arguments)
    dataset = MEASURES[asked.name](asked.seed, asked.folder)
    command = f"python -m paper_figures.shipped.measure {asked.name}"
    complete = dataset.assign_attrs(
        format=FORMAT, command=command, seed=asked.seed, versions=json.dumps(versions())
    )
    save_dataset(complete, asked.out or FOLDER / f"{asked.name}.nc")


if __name__ == "__main__":
    main()
