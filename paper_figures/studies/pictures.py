"""Pictures of a model's samples, each with a seed of its own.

A picture depends on its seed, its condition and the settings alone, not on what else is made beside it. What is
finished stays: a picture that lies in the folder and says that it was made from the same settings is kept.
"""

import dataclasses
import hashlib
import json
import re
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gmm.checks import check_values, choose
from gmm.files import damaged
from gmm.guidance import Guidance
from gmm.guidance_specs import needs_curve, parse_guidance
from gmm.outside_files import read_outside
from neural.checkpoints import read_kept, write_kept
from neural.decisions.words import members
from neural.models import Model, load_model
from neural.pictures import LATENT_CHANNELS, decoded
from neural.progress import Progress
from neural.samplers import ancestral, ddim, ddim_times, heun
from neural.stable_diffusion import load_vae
from paper_figures.files import save_image

SAMPLERS = ("heun", "ddim", "ancestral")
# What users of a model usually do: the guidance scale of Stable Diffusion, and its sampler.
USUAL_SAMPLER = {"sd15": "ddim"}
USUAL_SCALE = {"sd15": 7.5}
SETTINGS_KEY = "speciation"
# Of a model of at most so many classes, all are drawn where none is named.
MOST_CLASSES = 16
PER_FOLDER = 1000
_PNG = b"\x89PNG\r\n\x1a\n"
MOST_BYTES = 1 << 28
"""Of a picture."""


@dataclasses.dataclass(frozen=True)
class PictureSettings:
    """How pictures are made.

    Attributes:
        model: its name.
        sampler: one of `SAMPLERS`.
        steps: noise levels.
        guidance_scale: w; 1 for none.
        dtype: precision that the model computes in.
        decoder: autoencoder that turns its latents into pictures; empty where it needs none beside its own.
        schedule: text form of a guidance schedule, in place of the constant w; empty without one.
        latents: whether states are kept as they are, and no pictures made of them.
        changes: LoRA files and other settings of the model's kind, as results record them.
    """

    model: str
    sampler: str
    steps: int
    guidance_scale: float
    dtype: str
    decoder: str = ""
    schedule: str = ""
    latents: bool = False
    changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def guidance(self) -> Guidance | float:
        """The schedule, or the constant w."""
        return next(iter(parse_guidance(self.schedule).values())) if self.schedule else self.guidance_scale

    @property
    def is_guided(self) -> bool:
        """Whether a second network is evaluated."""
        guidance = self.guidance
        return not guidance.is_plain if isinstance(guidance, Guidance) else guidance != 1

    @property
    def sampler_evaluations(self) -> int:
        """Denoiser evaluations of the sampler for one picture."""
        return 2 * self.steps - 1 if self.sampler == "heun" else self.steps

    @property
    def evaluations(self) -> int:
        """Network evaluations for one picture; guidance takes two for each of the sampler's."""
        return self.sampler_evaluations * (2 if self.is_guided else 1)


@dataclasses.dataclass(frozen=True)
class Picture:
    """One picture.

    Attributes:
        name: of its condition, for people.
        condition: what the denoiser takes; None for no condition.
        seed: of its noise.
        suffix: of its file.
        by_number: whether its file is named by the seed alone, a thousand to a folder.
    """

    name: str
    condition: Any
    seed: int
    suffix: str = ".png"
    by_number: bool = False

    def path(self, folder: Path) -> Path:
        """Its file in a folder."""
        if self.by_number:
            first = self.seed // PER_FOLDER * PER_FOLDER
            return folder / f"{first:06d}" / f"{self.seed:06d}{self.suffix}"
        stem = re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")[:60] or "sample"
        # Conditions whose names differ only in other signs must not share a file.
        if stem != self.name:
            stem += f"-{hashlib.sha256(self.name.encode()).hexdigest()[:6]}"
        return folder / f"{stem}-seed{self.seed}{self.suffix}"


@dataclasses.dataclass(frozen=True, eq=False)
class PicturePlan:
    """Which pictures of which model, and how they are made."""

    model: Model
    settings: PictureSettings
    pictures: tuple[Picture, ...]

    def missing(self, folder: Path) -> list[Picture]:
        """The pictures that do not lie in the folder already, made from the same settings."""
        return [picture for picture in self.pictures if not is_made(folder, self.settings, picture)]


def plan_pictures(
    model: str,
    *,
    classes: Sequence[str] | None = None,
    prompts: Sequence[str] | None = None,
    count: int = 1,
    seed: int = 0,
    sampler: str | None = None,
    steps: int | None = None,
    guidance_scale: float | None = None,
    dtype: str = "float32",
    vae: str = "",
    schedule: str | None = None,
    latents: bool = False,
    for_metrics: bool = False,
    trust_code: bool = False,
    changes: Mapping[str, Any] | None = None,
) -> PicturePlan:
    """The model, loaded, and every picture: each condition with the same seeds, `seed` to `seed` + count - 1.

    Args:
        model: name or path.
        classes: by name, index or group. Without classes or prompts: a sample of every class of a model of few, else
            one without condition.
        prompts: of a model of free text.
        count: pictures of each condition.
        seed: of the first picture.
        sampler: one of `SAMPLERS`; None for what is usual for the model, as for the next two.
        steps: noise levels.
        guidance_scale: w; 1 for none.
        dtype: precision that the model computes in.
        vae: autoencoder for a model whose states are latents.
        schedule: text form of a guidance schedule, in place of `guidance_scale`.
        latents: whether to keep the states instead of pictures of them.
        trust_code: whether an own model may be loaded, which executes its code.
        changes: settings of the model's kind, as in `load_model`.
        for_metrics: one picture for each of `count` seeds, of a condition that the seed draws; see `Picture.by_number`.

    Raises:
        ValueError: on a model whose states are no pictures, classes for a model of free text and the other way
            round, and whatever else cannot be sampled.
    """
    check_values("count", count, ">= 1", lambda number: number >= 1)
    check_values("seed", seed, "in 0..2^31 - 1 - count", lambda s: (s >= 0) & (s < 2**31 - count))
    loaded = load_model(model, dtype=dtype, trust_code=trust_code, **(changes or {}))
    if not latents and loaded.pictures is None and not _needs_decoder(loaded):
        raise ValueError(
            f"model must make pictures, unless `latents` is given, which writes states; those of {loaded.name}, "
            f"{loaded.shape}, are no pictures"
        )
    settings = _settings(loaded, sampler, steps, guidance_scale, dtype)
    decoder = vae if _needs_decoder(loaded) and not latents else ""
    settings = dataclasses.replace(
        settings, decoder=decoder, latents=latents, schedule=_schedule(loaded, schedule, guidance_scale)
    )
    pictures = _pictures(loaded, classes or (), prompts or (), range(seed, seed + count), for_metrics)
    suffix = ".safetensors" if latents else ".png"
    return PicturePlan(
        loaded, settings, tuple(dataclasses.replace(picture, suffix=suffix) for picture in pictures)
    )


def _schedule(model: Model, schedule: str | None, guidance_scale: float | None) -> str:
    """The text of a guidance schedule, checked."""
    if schedule is None:
        return ""
    if guidance_scale is not None:
        raise ValueError("`schedule` and `guidance_scale` both say how to guide; give one of them")
    if needs_curve(schedule):
        raise ValueError(
            f"`schedule` {schedule} is timed by a measured curve: write it to a file first (guidance.json of "
            "`speciation guidance`), and name that"
        )
    found = parse_guidance(schedule)
    if len(found) != 1:
        raise ValueError(f"`schedule` must be one schedule, got {len(found)}: {', '.join(found)}")
    (one,) = found.values()
    if one.reference == "guide":
        raise ValueError(f"`schedule` {schedule} needs a second model, which `sample` does not take")
    if not one.is_plain and model.unconditional is None:
        raise ValueError(f"{model.name} has no unconditional network to guide with; leave out `schedule`")
    return schedule


def _pictures(
    model: Model, classes: Sequence[str], prompts: Sequence[str], seeds: range, for_metrics: bool
) -> list[Picture]:
    if not for_metrics:
        conditions = _conditions(model, classes, prompts)
        return [Picture(name, of, seed) for name, of in conditions for seed in seeds]
    named = bool(classes or prompts or model.free_text)
    known = list(zip(model.names, model.conditions or (), strict=True))
    conditions = _conditions(model, classes, prompts) if named else known
    return drawn_by_seed(conditions, seeds)


def drawn_by_seed(conditions: Sequence[tuple[str, Any]], seeds: range) -> list[Picture]:
    """One picture for each seed, of the condition (name, value) that the seed draws."""
    drawn = [int(np.random.default_rng(seed).integers(len(conditions))) for seed in seeds]
    return [
        Picture(*conditions[number], seed, by_number=True) for number, seed in zip(drawn, seeds, strict=True)
    ]


def _settings(
    model: Model, sampler: str | None, steps: int | None, guidance_scale: float | None, dtype: str
) -> PictureSettings:
    sampler = sampler or USUAL_SAMPLER.get(model.kind, "heun")
    steps = model.grid.steps if steps is None else steps
    scale = USUAL_SCALE.get(model.kind, 1.0) if guidance_scale is None else guidance_scale
    choose("sampler", sampler, SAMPLERS)
    check_values("steps", steps, "at least 2", lambda number: number >= 2)
    check_values("guidance_scale", scale, "a number >= 0", lambda w: (w >= 0) & (w < np.inf))
    if scale != 1 and model.unconditional is None:
        raise ValueError(f"{model.name} has no unconditional network to guide with; use `guidance_scale` 1")
    return PictureSettings(model.name, sampler, steps, scale, dtype, changes=model.facts.get("settings", {}))


def _conditions(model: Model, classes: Sequence[str], prompts: Sequence[str]) -> list[tuple[str, Any]]:
    """Names and values of the conditions that are asked for."""
    if model.free_text:
        if classes:
            raise ValueError(f"{model.name} takes prompts and has no classes; use `prompts`")
        if prompts and model.tokenize is not None:
            model.tokenize(prompts)
        return [(prompt, prompt) for prompt in dict.fromkeys(prompts)] or [("no prompt", "")]
    if prompts:
        raise ValueError(f"{model.name} has classes and takes no prompts; use `classes`")
    known = model.conditions or ()
    indices = dict.fromkeys(index for word in classes for index in members(model, word))
    if not classes and len(known) <= MOST_CLASSES:
        indices = dict.fromkeys(range(len(known)))
    if indices:
        return [(model.names[index], known[index]) for index in indices]
    if model.unconditional is None:
        raise ValueError(
            f"{model.name} has {len(known)} classes and no unconditional network; name some by `classes`"
        )
    return [("no class", None)]


def _needs_decoder(model: Model) -> bool:
    return model.pictures is None and model.kind == "edm2" and model.shape[-1] == LATENT_CHANNELS


def make(plan: PicturePlan, folder: Path, batch: int, progress: Progress | None = None) -> list[Path]:
    """Make every picture that does not lie in the folder already.

    Args:
        plan: what to make.
        folder: where pictures go.
        batch: pictures at a time; all batches are filled up to one size, so that one program serves them.
        progress: called with the denoiser evaluations of batches that are done, and all of them.

    Returns:
        The file of each picture, in order.

    Raises:
        ValueError: when samples are not finite, or the autoencoder is not on this machine, with the way to get it.
    """
    model = plan.model
    if plan.settings.decoder:
        decoder = load_vae(plan.settings.decoder)
        model = dataclasses.replace(model, pictures=lambda x: decoded(x, decoder))
    missing = plan.missing(folder)
    size = min(batch, max(1, len(missing)))
    batches = [missing[start : start + size] for start in range(0, len(missing), size)]
    each = plan.settings.sampler_evaluations
    for number, some in enumerate(batches):
        ours = _after(progress, number * each, len(batches) * each)
        states = states_of(model, plan.settings, some, size, ours)
        shown = states if plan.settings.latents else model.pictures(states)  # type: ignore[misc]
        for picture, one in zip(some, shown, strict=False):
            _save(one, picture.path(folder), {SETTINGS_KEY: _as_text(plan.settings, picture)})
    return [picture.path(folder) for picture in plan.pictures]


def _save(one: Any, path: Path, texts: dict[str, str]) -> None:
    """Write a picture, or a state as it is, with its settings in the file."""
    if path.suffix == ".png":
        save_image(one, path, texts)
    else:
        write_kept(path, {"latents": np.asarray(one)}, texts)


def _after(progress: Progress | None, before: int, total: int) -> Progress | None:
    """The callback of a batch, for the callback of all."""
    return None if progress is None else lambda done, _: progress(before + done, total)


def states_of(
    model: Model, settings: PictureSettings, some: Sequence[Picture], size: int, progress: Progress | None
) -> jax.Array:
    """(size, ...) states of some pictures, filled up to `size`; raises ValueError when they are not finite."""
    filled = [*some, *[some[-1]] * (size - len(some))]
    dtype = np.float64 if settings.dtype == "float64" else np.float32
    pairs = [jax.random.split(jax.random.key(picture.seed)) for picture in filled]
    noise = jnp.stack([jax.random.normal(start, model.shape, dtype) for start, _ in pairs])
    keys = jnp.stack([steps for _, steps in pairs])
    samples = _sample(model, settings, noise, [picture.condition for picture in filled], keys, progress)
    if not bool(jnp.isfinite(samples).all()):
        hint = "; float16 may have overflowed: use `dtype` bfloat16" if settings.dtype == "float16" else ""
        raise ValueError(f"samples of {model.name} are not finite{hint}")
    return samples


def _sample(
    model: Model,
    settings: PictureSettings,
    noise: jax.Array,
    conditions: Sequence[Any],
    keys: jax.Array,
    progress: Progress | None,
) -> jax.Array:
    denoiser = model.denoiser
    if conditions[0] is None:
        denoiser, condition = model.unconditional, None
    elif model.free_text:
        condition = denoiser.encode(conditions)
    else:
        condition = jnp.asarray(conditions)
    options: dict[str, Any] = {"progress": progress}
    if settings.is_guided:
        options |= {"guide": model.unconditional, "guidance_scale": settings.guidance}
    discrete = model.kind == "sd15"
    of_grid = ddim_times if discrete else model.grid.times
    times = of_grid(model.process, settings.steps)
    if settings.sampler == "heun":
        return heun(denoiser, noise, condition, times=times, **options)
    if settings.sampler == "ddim":
        end = 0.0 if discrete else None
        return ddim(denoiser, noise, condition, times=times, end=end, **options)
    return ancestral(denoiser, noise, condition, key=keys, times=times, **options)


def _as_text(settings: PictureSettings, picture: Picture) -> str:
    unset = {name for name in ("schedule", "latents", "changes") if not getattr(settings, name)}
    fields = {name: value for name, value in dataclasses.asdict(settings).items() if name not in unset}
    fields |= {"condition": picture.name, "seed": picture.seed}
    return json.dumps(fields, sort_keys=True)


def is_made(folder: Path, settings: PictureSettings, picture: Picture) -> bool:
    """Whether the folder holds a picture that was made from these settings; they are kept inside it."""
    path = picture.path(folder)
    if not path.exists():
        return False
    if path.suffix != ".png":
        kept = read_kept(path)
        return kept is not None and kept.attributes.get(SETTINGS_KEY) == _as_text(settings, picture)
    try:
        chunks = _png_chunks(read_outside(path, MOST_BYTES))
    except ValueError:
        damaged(path)
        return False
    text = f"{SETTINGS_KEY}\0{_as_text(settings, picture)}".encode("latin-1")
    return (b"tEXt", text) in chunks


def _png_chunks(contents: bytes) -> list[tuple[bytes, bytes]]:
    """Types and contents of the chunks of a PNG file.

    Raises:
        ValueError: when it is none, is cut short, or a checksum does not fit.
    """
    chunks, at = [], len(_PNG)
    while not chunks or chunks[-1][0] != b"IEND":
        length, kind = int.from_bytes(contents[at : at + 4]), contents[at + 4 : at + 8]
        body, end = contents[at + 8 : at + 8 + length], at + 12 + length
        if end > len(contents) or zlib.crc32(kind + body) != int.from_bytes(contents[end - 4 : end]):
            raise ValueError("the picture is cut short or damaged")
        chunks.append((kind, body))
        at = end
    if not contents.startswith(_PNG) or at != len(contents):
        raise ValueError("no picture, or something after its end")
    return chunks
