"""What ``speciation train`` does: plan, train, evaluate, sample, and say how."""

import dataclasses
import json
import math
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import typer
import xarray as xr
from rich.progress import TextColumn

import gmm
from gmm.curve import load_dataset, versions
from gmm.datasets import BUILT_IN, LabelledData, load_data
from gmm.files import write_aside
from neural.families import FamilySpec
from neural.models.trained import IMAGE_RANGE, find_data
from neural.samplers import edm_times, heun
from neural.training import (
    Plan,
    Progress,
    Recipe,
    TrainingState,
    data_plan,
    level_losses,
    mixture_optimum,
    mixture_plan,
    nearest_class,
    train,
)
from neural.training.evaluation import PREDICTIONS
from paper_figures.drawing.style import lay_out, paper_style
from paper_figures.drawing.training import FORMAT, agreement, draw_samples, draw_training, worst_gap
from paper_figures.files import ensure_writable, save_picture
from paper_figures.interruption import interruptible
from paper_figures.progress import bars

HELD_OUT_SHARE = 1 / 6
EVALUATED = 2048  # points that losses are taken on
LEVELS = 25
SHEET_COLUMNS = 10
JUDGED = 32  # samples a class
SAMPLER_STEPS = 24
GUIDED = 2.0  # weight of the samples under guidance, which are judged beside the plain ones
STATE, MODEL, RESULT, CARD = "state.safetensors", "model.safetensors", "training.nc", "card.md"
SHEET, CURVES = "samples.png", "training.png"
# Share of the rate of large matrix products that training has been seen to reach.
EFFICIENCY = 0.5


@dataclasses.dataclass(frozen=True)
class Request:
    """The options of the command, by their names."""

    data: str | None = None
    family: str | None = None
    dim: int = 64
    classes: int | None = None
    branching: str | None = None
    energies: str | None = None
    separation: float = 1.0
    variance: float = 1.0
    held_out: int | None = None
    patch: int = 1
    channels: str = "64"
    blocks: int = 1
    width: int = 192
    depth: int = 3
    steps: int = 6000
    batch: int = 512
    learning_rate: float | None = None
    label_dropout: float | None = None
    ema: float = 0.05
    store: str = "float32"
    seed: int = 0

    def command(self) -> str:
        """The command line that asks for this."""
        given = [
            f"--{field.name.replace('_', '-')} {getattr(self, field.name)}"
            for field in dataclasses.fields(self)
            if getattr(self, field.name) != field.default
        ]
        return " ".join(["speciation train", *given])

    def plan(self) -> Plan:
        """What it asks for.

        Raises:
            ValueError: when options contradict each other or are out of range.
        """
        if (self.data is None) == (self.family is None):
            raise ValueError("give either --data or --family: what is to be learned")
        if self.label_dropout is not None and not 0 < self.label_dropout < 1:
            raise ValueError(f"--label-dropout must be between 0 and 1, got {self.label_dropout:g}")
        if self.family is not None:
            dropout = 0.5 if self.label_dropout is None else self.label_dropout
            sizes = {"width": self.width, "depth": self.depth}
            return mixture_plan(self._family(), self._recipe(2e-3), dropout=dropout, **sizes)
        return self._data_plan()

    def _family(self) -> FamilySpec:
        branching = tuple(_whole("--branching", word) for word in (self.branching or "").split("x") if word)
        energies = tuple(_positive("--energies", word) for word in (self.energies or "").split(",") if word)
        leaves = math.prod(branching) if branching else 2
        classes = leaves if self.classes is None else self.classes
        if branching and classes != leaves:
            raise ValueError(f"--classes of a tree are its {leaves} leaves, got {classes}")
        if self.family == "tree" and not branching:
            raise ValueError("--family tree needs its shape; pass --branching, such as 2x2x2")
        assert self.family is not None
        return FamilySpec(
            self.family, self.dim, classes, branching, energies, self.separation, self.variance, self.seed
        )

    def _data_plan(self) -> Plan:
        assert self.data is not None
        data, held_out = _split(self.data, self.held_out)
        channels = tuple(_whole("--channels", word) for word in self.channels.split(","))
        return data_plan(
            data, held_out, self._recipe(1e-2 if len(data.shape) > 1 else 2e-3), source=self.data, patch=self.patch,
            channels=channels, blocks=self.blocks, width=self.width, depth=self.depth, dropout=self.label_dropout,
        )  # fmt: skip

    def _recipe(self, learning_rate: float) -> Recipe:
        rate = learning_rate if self.learning_rate is None else self.learning_rate
        return Recipe(self.steps, self.batch, rate, self.ema, self.seed)


def _whole(option: str, word: str) -> int:
    if not word.isdecimal() or int(word) < 1:
        raise ValueError(f"{option} must list whole numbers >= 1, got {word!r}")
    return int(word)


def _positive(option: str, word: str) -> float:
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise ValueError(f"{option} must list finite numbers >= 0, got {word!r}")
    return value


def _split(source: str, held_out: int | None) -> tuple[LabelledData, LabelledData]:
    """Points of training and others: the test set where there is one, else the end of a fixed shuffle."""
    place = find_data(source)
    data = load_data(place)
    if place != BUILT_IN and Path(place).is_dir():
        away = load_data(place, split="test")
        return data, away if held_out is None else away.subset(held_out)
    count = round(len(data.x) * HELD_OUT_SHARE) if held_out is None else held_out
    if not 0 < count < len(data.x):
        raise ValueError(f"--held-out must leave points on both sides of {len(data.x)}, got {count}")
    kept = data.subset(len(data.x) - count)
    chosen = np.random.default_rng(0).permutation(len(data.x))[len(data.x) - count :]
    return kept, dataclasses.replace(data, x=data.x[np.sort(chosen)], y=data.y[np.sort(chosen)])


# ------------------------------------------------------------------------------------------------ carrying out


def carry_out(request: Request, folder: Path) -> None:
    """Train, and leave every result in `folder`.

    Raises:
        ValueError: for options that cannot be, a folder that cannot be written, or one that holds another run.
    """
    plan = request.plan()
    ensure_writable(folder)
    state, losses = _train(plan, folder)
    plan.write(
        folder / MODEL, state.ema, dtype=np.dtype(request.store), command=request.command(), seed=request.seed
    )
    denoiser = plan.denoiser(_stored(state, request.store))
    typer.echo("evaluating")
    sheet = sampled(plan, denoiser, jax.random.fold_in(jax.random.key(request.seed), 1))
    dataset = results(plan, request, denoiser, losses, sheet)
    with write_aside(folder / RESULT) as aside:
        dataset.to_netcdf(aside, engine="h5netcdf")
    _draw(load_dataset(folder / RESULT), folder, plan, sheet)
    with write_aside(folder / CARD) as aside:
        aside.write_text(card(dataset, folder.name))
    typer.echo(_verdict(dataset))
    typer.echo(f"model: {folder / MODEL}")


def _train(plan: Plan, folder: Path) -> tuple[TrainingState, np.ndarray]:
    stay = f"kept in {folder / STATE}, the same command goes on"
    with interruptible(stay), bars(TextColumn("{task.fields[left]}")) as shown:
        task = shown.add_task("compiling", total=plan.recipe.steps, left="")

        def report(progress: Progress) -> None:
            left = f"{progress.seconds_left / 60:.1f} min left"
            text = f"step {progress.step} of {progress.steps}, loss {progress.loss:.4f}"
            shown.update(task, completed=progress.step, description=text, left=left)

        return train(plan.task, plan.recipe, kept=folder / STATE, describe=plan.facts, report=report)


def _stored(state: TrainingState, precision: str) -> dict[str, jax.Array]:
    """The weights as a reader of the file will have them."""
    return {name: jnp.asarray(np.asarray(a).astype(precision), a.dtype) for name, a in state.ema.items()}


class Sheet(NamedTuple):
    """Samples of the network, class by class.

    Attributes:
        states: (n, ...) as the network makes them.
        labels: (n,) the class asked for.
        judged: (n,) the class of the nearest data point, or of the greatest exact posterior.
        judged_guided: (n,) the same of samples from the same noise under guidance `GUIDED`.
        reliable: share of held-out points whose class the judge finds.
    """

    states: np.ndarray
    labels: np.ndarray
    judged: np.ndarray
    judged_guided: np.ndarray
    reliable: float


def sampled(plan: Plan, denoiser: Any, key: jax.Array) -> Sheet:
    """Samples of every class by Heun's sampler, and what the judge makes of them."""
    labels = np.repeat(np.arange(len(denoiser.conditions)), JUDGED)
    drawing, points = jax.random.split(key)
    noise = jax.random.normal(drawing, (len(labels), *denoiser.state_shape))
    low, high = _range(plan)
    times = edm_times(denoiser.process, SAMPLER_STEPS, sigma_min=low, sigma_max=min(high, 80.0))
    states, guided = (
        np.asarray(heun(denoiser, noise, jnp.asarray(labels), times=times, guide=denoiser, guidance_scale=w))
        for w in (1.0, GUIDED)
    )
    x0, truth = _held_out(plan, points)
    judge = lambda x: _judged(plan, x.reshape(len(x), -1))
    reliable = float(np.mean(judge(x0[:500]) == truth[:500]))
    return Sheet(states, labels, judge(states), judge(guided), reliable)


def _judged(plan: Plan, x: np.ndarray) -> np.ndarray:
    if plan.family is not None:
        mixture = plan.task.mixture  # type: ignore[union-attr]
        return np.asarray(jnp.argmax(gmm.log_posterior(mixture, jnp.asarray(x)), axis=-1))
    assert plan.data is not None
    return nearest_class(x, plan.data.x, plan.data.y)


def _held_out(plan: Plan, key: jax.Array) -> tuple[np.ndarray, np.ndarray]:
    """States that training has not seen, and their classes."""
    if plan.family is not None:
        x0, labels = gmm.sample(plan.task.mixture, key, EVALUATED)  # type: ignore[union-attr]
        return np.asarray(x0), np.asarray(labels)
    assert plan.held_out is not None
    return _states(plan, plan.held_out)


def _states(plan: Plan, data: LabelledData) -> tuple[np.ndarray, np.ndarray]:
    assert plan.state_map is not None
    some = data.subset(EVALUATED)
    return some.x.reshape(-1, *plan.state_map.state_shape), some.y


def _range(plan: Plan) -> tuple[float, float]:
    config = plan.task.config
    return IMAGE_RANGE if plan.is_image else (config.sigma_min, config.sigma_max)  # type: ignore[union-attr]


def results(plan: Plan, request: Request, denoiser: Any, losses: np.ndarray, sheet: Sheet) -> xr.Dataset:
    """Loss by step, losses by noise level, and how many samples are of their class."""
    points, noise, other = jax.random.split(jax.random.key(request.seed), 3)
    sigmas = np.geomspace(*_range(plan), LEVELS)
    optimum = None
    if plan.family is not None:
        optimum = mixture_optimum(plan.task.mixture)  # type: ignore[union-attr]
    found = {"held out": level_losses(denoiser, *_held_out(plan, points), sigmas, key=noise, optimum=optimum)}
    if plan.data is not None:
        found["training"] = level_losses(denoiser, *_states(plan, plan.data), sigmas, key=other)
    rates = np.asarray(jax.vmap(plan.recipe.schedule())(jnp.arange(1, len(losses) + 1)))
    data: dict[str, Any] = {
        "step_loss": ("step", losses),
        "learning_rate": ("step", rates),
        "sample_class": ("sample", sheet.labels),
        "sample_judged": ("sample", sheet.judged),
        "sample_judged_guided": ("sample", sheet.judged_guided),
    }
    for name in ("loss", "stderr", "optimum", "excess", "excess_stderr"):
        rows = np.stack([getattr(part, name) for part in found.values()])
        data[name] = (("points", "prediction", "sigma"), rows)
    coordinates = {"points": list(found), "prediction": list(PREDICTIONS), "sigma": sigmas}
    return xr.Dataset(data, coordinates).assign_attrs(
        format=FORMAT, command=request.command(), seed=request.seed, facts=json.dumps(dict(plan.facts)),
        judge_accuracy=sheet.reliable, versions=json.dumps(versions()),
        network=repr(denoiser), parameters=_parameters(plan),
    )  # fmt: skip


def _parameters(plan: Plan) -> int:
    shapes = jax.eval_shape(plan.task.initial, jax.random.key(0))
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))


def _draw(dataset: xr.Dataset, folder: Path, plan: Plan, sheet: Sheet) -> None:
    with paper_style():
        pictures = {CURVES: draw_training(dataset), SHEET: draw_samples(plan, sheet, SHEET_COLUMNS)}
        for name, picture in pictures.items():
            lay_out(picture)
            save_picture(picture, folder / name)


def _verdict(dataset: xr.Dataset) -> str:
    share, stderr = agreement(dataset)
    text = f"{share:.1%} ± {stderr:.1%} of its samples are judged to be of their class"
    gap = worst_gap(dataset)
    if np.isfinite(gap).all():
        by = ", ".join(f"{p} {float(gap.sel(prediction=p)):.2%}" for p in PREDICTIONS)
        text += f"; loss above the optimum by at most: {by}"
    return text


def card(dataset: xr.Dataset, name: str) -> str:
    """The model card: what, how, and what it is worth, in Markdown."""
    facts = json.loads(dataset.attrs["facts"])
    about = facts.get("data")
    learned = (
        f"{about['name']}: {about['points']} points in training, {about['held_out']} held out"
        if about
        else "samples of the mixture " + ", ".join(f"{k} {v}" for k, v in facts["family"].items() if v)
    )
    share, stderr = agreement(dataset)
    guided, guided_stderr = agreement(dataset, "sample_judged_guided")
    lines = [
        f"# {name}", "", f"{dataset.attrs['network']}, {dataset.attrs['parameters']:,} parameters.", "",
        f"- Learned: {learned}.",
        f"- Made by: `{dataset.attrs['command']} --out {name}` (seed {dataset.attrs['seed']}).",
        f"- Samples: {share:.1%} ± {stderr:.1%} of {dataset.sizes['sample']} are of the class that was asked for, by "
        f"{'the class of the nearest training point' if about else 'the exact posterior'}, which is right for "
        f"{dataset.attrs['judge_accuracy']:.1%} of held-out points. Under constant guidance of {GUIDED:g}: "
        f"{guided:.1%} ± {guided_stderr:.1%}.",
        f"- Versions: {', '.join(f'{k} {v}' for k, v in json.loads(dataset.attrs['versions']).items())}.", "",
        *_loss_table(dataset),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _loss_table(dataset: xr.Dataset) -> list[str]:
    """Held-out losses at some levels, in Markdown."""
    known = bool(np.isfinite(dataset.optimum).any())
    last = "above the optimum" if known else "on training points"
    rows = [
        f"Mean square error of a coordinate on held-out points, given the class | without it; {last}.", "",
        "| σ | given the class | without | " + f"{last}, class | without |", "|---|---|---|---|---|",
    ]  # fmt: skip
    for place in range(0, dataset.sizes["sigma"], 3):
        part = dataset.isel(sigma=place)
        here = part.sel(points="held out")
        extra = (here.excess / here.optimum).values if known else part.sel(points="training").loss.values
        shown = [f"{v:.2%}" if known else f"{v:.4g}" for v in extra]
        cells = [f"{float(part.sigma):.3g}", *(f"{v:.4g}" for v in here.loss.values), *shown]
        rows.append("| " + " | ".join(cells) + " |")
    return rows


def print_cost(request: Request, folder: Path) -> None:
    """What a run would be, without running it."""
    plan = request.plan()
    work = 6 * plan.multiply_adds() * plan.recipe.batch * plan.recipe.steps
    seconds = work / (EFFICIENCY * _matrix_rate())
    rows = {
        "network": f"{_parameters(plan):,} parameters, {plan.multiply_adds() / 1e6:.1f} M multiply-adds a state",
        "training": f"{plan.recipe.steps} steps of {plan.recipe.batch}, {work / 1e12:.1f} T operations",
        "time": f"about {seconds / 60:.1f} min on this device, by the rate of its matrix products now",
        "folder": f"{folder} ({'goes on' if (folder / STATE).exists() else 'new'})",
    }
    for name, text in rows.items():
        typer.echo(f"{name}: {text}")


def _matrix_rate(size: int = 512, turns: int = 8) -> float:
    """Operations a second of matrix products on this device, as busy as it is."""
    product = jax.jit(lambda a: a @ a)
    a = jnp.ones((size, size))
    product(a).block_until_ready()
    begun = time.perf_counter()
    for _ in range(turns):
        product(a).block_until_ready()
    return 2 * size**3 * turns / (time.perf_counter() - begun)
