"""What ``speciation sample`` does: pictures of a model's samples, each with a seed of its own.

A picture depends on its seed, its condition and the settings alone, not on what else is made beside it. What is
finished stays: a picture that lies in the folder and says that it was made from the same settings is kept.
"""

import dataclasses
import hashlib
import itertools
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gmm.checks import choose
from gmm.files import write_aside
from neural.decisions.words import members
from neural.models import Model
from neural.pictures import LATENT_CHANNELS, decoded
from neural.samplers import ancestral, ddim, ddim_times, heun
from neural.stable_diffusion import load_vae

SAMPLERS = ("heun", "ddim", "ancestral")
# What a model's own users do: Stable Diffusion's guidance, and its sampler.
USUAL_SAMPLER = {"sd15": "ddim"}
USUAL_SCALE = {"sd15": 7.5}
SETTINGS_KEY = "speciation"
# Of a model of so few, all are drawn where none is named.
MOST_CLASSES = 16
_PNG = b"\x89PNG\r\n\x1a\n"

Watch = Callable[[int, int], None]


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How pictures are made.

    Attributes:
        model: its name.
        sampler: one of `SAMPLERS`.
        steps: noise levels.
        guidance_scale: w; 1 for none.
        dtype: that the model computes in.
        decoder: autoencoder that turns its latents into pictures; empty where it needs none beside its own.
    """

    model: str
    sampler: str
    steps: int
    guidance_scale: float
    dtype: str
    decoder: str = ""

    @property
    def evaluations(self) -> int:
        """Of the network, for one picture; guidance asks twice."""
        levels = 2 * self.steps - 1 if self.sampler == "heun" else self.steps
        return levels * (1 if self.guidance_scale == 1 else 2)


@dataclasses.dataclass(frozen=True)
class Wanted:
    """One picture.

    Attributes:
        name: of its condition, for people.
        condition: what the denoiser is asked; None for no condition.
        seed: of its noise.
    """

    name: str
    condition: Any
    seed: int

    def path(self, folder: Path) -> Path:
        """Its file."""
        slug = re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")[:60] or "sample"
        # Conditions whose names differ in signs alone must not share a file.
        if slug != self.name:
            slug += f"-{hashlib.sha256(self.name.encode()).hexdigest()[:6]}"
        return folder / f"{slug}-seed{self.seed}.png"


def recipe(
    model: Model, sampler: str | None, steps: int | None, guidance_scale: float | None, dtype: str, vae: str
) -> Recipe:
    """The recipe that was asked for, what is usual for the model in place of what was not said.

    Raises:
        ValueError: on a model whose states are no pictures, an unknown sampler, fewer than two steps, a scale that
            is negative, or guidance by a model that has no unconditional law.
    """
    if model.pictures is None and not _needs_decoder(model):
        raise ValueError(f"--model must make pictures; the states of {model.name}, {model.shape}, are none")
    sampler = sampler or USUAL_SAMPLER.get(model.kind, "heun")
    steps = model.grid.steps if steps is None else steps
    scale = USUAL_SCALE.get(model.kind, 1.0) if guidance_scale is None else guidance_scale
    choose("--sampler", sampler, SAMPLERS)
    if steps < 2:
        raise ValueError(f"--steps must be at least 2, got {steps}")
    if not 0 <= scale < np.inf:
        raise ValueError(f"--guidance-scale must be a number >= 0, got {scale}")
    if scale != 1 and model.unconditional is None:
        raise ValueError(f"{model.name} has no unconditional network to guide with; use --guidance-scale 1")
    return Recipe(model.name, sampler, steps, scale, dtype, vae if _needs_decoder(model) else "")


def wanted(
    model: Model, classes: Sequence[str], prompts: Sequence[str], count: int, seed: int
) -> list[Wanted]:
    """Every picture: each condition with the same seeds, `seed` to `seed` + count - 1.

    Without classes or prompts: a sample of every class of a model of few, else without condition.

    Raises:
        ValueError: on classes of a model of free text and the other way round, an unknown class, prompts that
            cannot be read, or when nothing is named and the model has no law without condition.
    """
    if count < 1:
        raise ValueError(f"--count must be at least 1, got {count}")
    if not 0 <= seed < 2**31 - count:
        raise ValueError(f"--seed must be in 0..2^31 - 1 - count, got {seed}")
    return [
        Wanted(name, condition, seed + number)
        for name, condition in _conditions(model, classes, prompts)
        for number in range(count)
    ]


def _conditions(model: Model, classes: Sequence[str], prompts: Sequence[str]) -> list[tuple[str, Any]]:
    if model.free_text:
        if classes:
            raise ValueError(f"{model.name} takes prompts and has no classes; use --prompt")
        if prompts and model.tokenize is not None:
            model.tokenize(prompts)
        return [(prompt, prompt) for prompt in dict.fromkeys(prompts)] or [("no prompt", "")]
    if prompts:
        raise ValueError(f"{model.name} has classes and takes no prompts; use --class")
    known = model.conditions or ()
    indices = dict.fromkeys(index for word in classes for index in members(model, word))
    if not classes and len(known) <= MOST_CLASSES:
        indices = dict.fromkeys(range(len(known)))
    if indices:
        return [(model.names[index], known[index]) for index in indices]
    if model.unconditional is None:
        raise ValueError(
            f"{model.name} has {len(known)} classes and no unconditional network; name some by --class"
        )
    return [("no class", None)]


def _needs_decoder(model: Model) -> bool:
    return model.pictures is None and model.kind == "edm2" and model.shape[-1] == LATENT_CHANNELS


def with_decoder(model: Model, vae: str) -> Model:
    """The model with an autoencoder that turns its latents into pictures, where it needs one.

    Raises:
        ValueError: as `load_vae`: when the autoencoder is not on this machine, with the way to get it.
    """
    if not _needs_decoder(model):
        return model
    decoder = load_vae(vae)
    return dataclasses.replace(model, pictures=lambda x: decoded(x, decoder))


def make(
    model: Model,
    how: Recipe,
    pictures: Sequence[Wanted],
    folder: Path,
    batch: int,
    watch: Watch | None = None,
) -> list[Path]:
    """Make every picture that does not lie in the folder already.

    Args:
        model: what to sample.
        how: the recipe.
        pictures: what is wanted.
        folder: where it goes.
        batch: pictures at a time; all batches are filled up to one size, so that one program serves them.
        watch: told how many evaluations of a batch's states are done, and how many there are in all.

    Returns:
        The file of each picture, in order.

    Raises:
        ValueError: when samples are not finite.
    """
    waiting = [one for one in pictures if not is_made(one.path(folder), how, one)]
    size = min(batch, max(1, len(waiting)))
    batches = [waiting[start : start + size] for start in range(0, len(waiting), size)]
    each = 2 * how.steps - 1 if how.sampler == "heun" else how.steps
    for number, some in enumerate(batches):
        told = _telling(watch, number * each, len(batches) * each)
        for one, picture in zip(some, _batch(model, how, some, size, told), strict=False):
            _write(one.path(folder), picture, how, one)
    return [one.path(folder) for one in pictures]


def _telling(watch: Watch | None, before: int, total: int) -> Watch | None:
    return None if watch is None else lambda done, _: watch(before + done, total)


def _batch(model: Model, how: Recipe, some: Sequence[Wanted], size: int, watch: Watch | None) -> np.ndarray:
    filled = [*some, *[some[-1]] * (size - len(some))]
    dtype = np.float64 if how.dtype == "float64" else np.float32
    pairs = [jax.random.split(jax.random.key(one.seed)) for one in filled]
    noise = jnp.stack([jax.random.normal(start, model.shape, dtype) for start, _ in pairs])
    samples = _sample(model, how, noise, filled, jnp.stack([steps for _, steps in pairs]), watch)
    if not bool(jnp.isfinite(samples).all()):
        hint = "; float16 may have overflowed: use --dtype bfloat16" if how.dtype == "float16" else ""
        raise ValueError(f"samples of {model.name} are not finite{hint}")
    return model.pictures(samples)[: len(some)]  # type: ignore[misc]


def _sample(
    model: Model,
    how: Recipe,
    noise: jax.Array,
    filled: Sequence[Wanted],
    keys: jax.Array,
    watch: Watch | None,
) -> jax.Array:
    denoiser, conditions = model.denoiser, [one.condition for one in filled]
    if conditions[0] is None:
        denoiser, condition = model.unconditional, None
    elif model.free_text:
        condition = denoiser.encode(conditions)
    else:
        condition = jnp.asarray(conditions)
    options: dict[str, Any] = {"progress": watch}
    if how.guidance_scale != 1:
        options |= {"guide": model.unconditional, "guidance_scale": how.guidance_scale}
    discrete = model.kind == "sd15"
    times = ddim_times(model.process, how.steps) if discrete else model.grid.times(model.process, how.steps)
    if how.sampler == "heun":
        return heun(denoiser, noise, condition, times=times, **options)
    if how.sampler == "ddim":
        end = 0.0 if discrete else None
        return ddim(denoiser, noise, condition, times=times, end=end, **options)
    return ancestral(denoiser, noise, condition, key=keys, times=times, **options)


# Files.


def _settings(how: Recipe, one: Wanted) -> str:
    fields = dataclasses.asdict(how) | {"condition": one.name, "seed": one.seed}
    return json.dumps(fields, sort_keys=True)


def is_made(path: Path, how: Recipe, one: Wanted) -> bool:
    """Whether a picture lies there that was made from these settings; they are kept inside it."""
    if not path.is_file():
        return False
    raw = path.read_bytes()
    mark = f"tEXt{SETTINGS_KEY}\0".encode("latin-1") + _settings(how, one).encode("latin-1")
    return raw.startswith(_PNG) and mark in raw


def _write(path: Path, picture: np.ndarray, how: Recipe, one: Wanted) -> None:
    from matplotlib.image import imsave

    colour = np.repeat(picture, 3, axis=-1) if picture.shape[-1] == 1 else picture
    texts: dict[str, Any] = {SETTINGS_KEY: _settings(how, one), "Software": None}
    with write_aside(path) as aside:
        imsave(aside, np.ascontiguousarray(colour), format="png", metadata=texts)


def write_sheet(path: Path, pictures: Sequence[Wanted], folder: Path, title: str) -> None:
    """All pictures on one page: a row a condition, a column a seed."""
    import matplotlib.pyplot as plt
    from matplotlib.image import imread

    rows = list(dict.fromkeys(one.name for one in pictures))
    columns = list(dict.fromkeys(one.seed for one in pictures))
    figure, axes = plt.subplots(
        len(rows), len(columns), squeeze=False, layout="constrained",
        figsize=(1.2 + 1.8 * len(columns), 0.6 + 1.8 * len(rows)),
    )  # fmt: skip
    for one in pictures:
        ax = axes[rows.index(one.name)][columns.index(one.seed)]
        image = imread(one.path(folder))
        # Small pictures keep their pixels, large ones are not aliased.
        ax.imshow(image, interpolation="nearest" if image.shape[0] <= 64 else "antialiased")
    for row, column in itertools.product(range(len(rows)), range(len(columns))):
        ax = axes[row][column]
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
        if row == 0:
            ax.set_title(f"seed {columns[column]}", fontsize=8)
        if column == 0:
            ax.set_ylabel(_wrapped(rows[row]), fontsize=8, rotation=0, ha="right", va="center")
    figure.suptitle(title, fontsize=9)
    with write_aside(path) as aside:
        figure.savefig(aside, format="png", dpi=150)
    plt.close(figure)


def _wrapped(text: str, width: int = 18) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(text, width)[:5])
