"""What a single file says about itself: its metadata, its tables of noise, marker tensors, and a ``.yaml`` beside it.

A single file has no configuration. What it says is brought into the form of a folder's configuration files, so
that both are read in the same way.
"""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gmm.process import scaled_linear_betas
from neural.checkpoints import Checkpoint, CheckpointError
from neural.checkpoints.checkpoint import quoted
from neural.stable_diffusion.architecture import UNetConfig, VAEConfig
from neural.stable_diffusion.names import UNET, VAE
from neural.stable_diffusion.scheduler import SPELLINGS, STEPS

MAX_YAML = 1 << 20
HALF_PRECISION = 2.0**-9
"""Relative distance within which a table counts as the usual one, rounded to float16."""


@dataclasses.dataclass(frozen=True)
class Hints:
    """What a single file says about itself.

    Attributes:
        scheduler: entries as in a scheduler's configuration.
        options: entries as in a network's configuration, by part.
        clip_skip: layers of the text encoder to leave out.
    """

    scheduler: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    options: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    clip_skip: int = 0


def read_hints(path: Path, checkpoint: Checkpoint, prediction: str | None = None) -> Hints:
    """What a single file, and a ``.yaml`` beside it, say.

    Args:
        path: of the file.
        checkpoint: its contents.
        prediction: what the network predicts, in place of what the file says.

    Raises:
        ValueError: when they contradict one another, or ask for what is not supported.
    """
    sources = (
        _metadata(checkpoint.attributes),
        _markers(checkpoint.tensors),
        _tables(checkpoint.tensors),
        _yaml(path),
    )
    scheduler: dict[str, Any] = {"prediction_type": prediction} if prediction else {}
    options: dict[str, dict[str, Any]] = {}
    for hints in sources:
        said = hints.scheduler.items()
        _join(
            scheduler, {name: value for name, value in said if not (prediction and name == "prediction_type")}
        )
        for part, entries in hints.options.items():
            _join(options.setdefault(part, {}), entries)
    return Hints(scheduler, options, max(hints.clip_skip for hints in sources))


def _join(hints: dict[str, Any], more: Mapping[str, Any]) -> None:
    for name, value in more.items():
        if name in hints and not np.array_equal(hints[name], value):
            raise ValueError(
                f"the file says {name} = {hints[name]!r} in one place and {value!r} in another; pass the right one "
                "to load_sd15, or correct the file"
            )
        hints[name] = value


# Metadata, as merging and training tools write them into safetensors files.


def _metadata(attributes: Mapping[str, Any]) -> Hints:
    kind = attributes.get("modelspec.architecture")
    if isinstance(kind, str) and kind != "stable-diffusion-v1":
        raise ValueError(f"modelspec.architecture must be 'stable-diffusion-v1', got {quoted(kind)}")
    scheduler: dict[str, Any] = {}
    for name in ("modelspec.prediction_type", "prediction_type"):
        if name in attributes:
            _join(scheduler, {"prediction_type": _prediction(name, attributes[name])})
    if str(attributes.get("ss_zero_terminal_snr", False)).lower() == "true":
        scheduler["rescale_betas_zero_snr"] = True
    layer = attributes.get("modelspec.encoder_layer", 1)
    if type(layer) is not int or not 1 <= layer < 1000:
        raise ValueError(f"modelspec.encoder_layer must be a positive integer, got {quoted(str(layer))}")
    return Hints(scheduler, clip_skip=layer - 1)


def _prediction(name: str, value: object) -> str:
    prediction = SPELLINGS.get(value) if isinstance(value, str) else None
    if prediction is None:
        raise ValueError(f"{name} must be one of {', '.join(SPELLINGS)}, got {quoted(str(value))}")
    return prediction


# Tensors.

MARKERS = ("v_pred", "ztsnr")
TABLES = ("betas", "alphas_cumprod")
SCALE = "scale_factor"


def _markers(tensors: Mapping[str, np.ndarray]) -> Hints:
    scheduler: dict[str, Any] = {}
    if "v_pred" in tensors:
        scheduler["prediction_type"] = "v"
    if "ztsnr" in tensors:
        scheduler["rescale_betas_zero_snr"] = True
    return Hints(scheduler)


def _tables(tensors: Mapping[str, np.ndarray]) -> Hints:
    """The table of noise, where it is not the usual one, and the scale of the latents."""
    options: dict[str, dict[str, Any]] = {}
    if SCALE in tensors:
        scale = float(np.asarray(tensors[SCALE], np.float64).reshape(-1)[0])
        if not np.isclose(scale, VAEConfig.scaling_factor, rtol=HALF_PRECISION):
            options[VAE] = {"scaling_factor": scale}
    alpha_bars = [_alpha_bar(name, tensors[name]) for name in TABLES if name in tensors]
    if len(alpha_bars) == 2 and not _near(*alpha_bars):
        raise ValueError("the tables betas and alphas_cumprod of the file contradict each other")
    usual = np.cumprod(1 - scaled_linear_betas())
    if not alpha_bars or _near(alpha_bars[0], usual):
        return Hints(options=options)
    alpha_bar = alpha_bars[0]
    betas = 1 - alpha_bar / np.append(1, alpha_bar[:-1])
    return Hints({"trained_betas": betas.tolist(), "num_train_timesteps": len(betas)}, options)


def _alpha_bar(name: str, table: np.ndarray) -> np.ndarray:
    values = np.asarray(table, np.float64)
    if values.ndim != 1 or values.size < 2 or not np.isfinite(values).all():
        raise ValueError(
            f"the table {name} must be finite numbers of shape (N,), N >= 2, got shape {values.shape}"
        )
    alpha_bar = np.cumprod(1 - values) if name == "betas" else values
    if not (alpha_bar > 0).all() or not (np.diff(alpha_bar) < 0).all() or not alpha_bar[0] < 1:
        raise ValueError(f"the table {name} must describe noise that grows from step to step")
    return alpha_bar


def _near(a: np.ndarray, b: np.ndarray) -> bool:
    # Rounded betas are multiplied up, so the logs are compared, whose errors add.
    return len(a) == len(b) and bool(
        np.allclose(np.log(a), np.log(b), rtol=HALF_PRECISION, atol=HALF_PRECISION)
    )


# The configuration of the original code.

_YAML_SCHEDULES = {"linear": "scaled_linear", "sqrt_linear": "linear", "cosine": "squaredcos_cap_v2"}
"""What the original code calls its tables of betas, and what diffusers does."""


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_YAML_TRAINING = _names(
    "allow_extra ckpt_path cond_stage_forward cond_stage_key cond_stage_trainable first_stage_key ignore_keys "
    "ignore_keys_on_load image_size channels log_every_t loss_type monitor num_timesteps_cond scheduler_config "
    "use_ema use_positional_encodings load_only_unet original_elbo_weight l_simple_weight learn_logvar "
    "logvar_init personalization_config embedding_reg_weight unfreeze_model model_lr finetune_keys ema_decay "
    "make_it_fit reset_ema reset_num_ema_updates v_posterior clip_denoised concat_mode scale_by_std"
)
_YAML_UNET = {
    "use_spatial_transformer": (True,), "transformer_depth": (1,), "num_head_channels": (-1, None),
    "use_scale_shift_norm": (False,), "resblock_updown": (False,), "num_classes": (None,), "dims": (2,),
    "use_new_attention_order": (False,), "conv_resample": (True,), "n_embed": (None,), "adm_in_channels": (None,),
    "disable_self_attentions": (None,), "disable_middle_self_attn": (False,), "num_attention_blocks": (None,),
}  # fmt: skip
_YAML_UNET_SIZES = {
    "in_channels": "in_channels",
    "out_channels": "out_channels",
    "context_dim": "cross_attention_dim",
}
_YAML_UNET_OTHER = _names(
    "image_size model_channels attention_resolutions num_res_blocks channel_mult num_heads use_checkpoint legacy "
    "use_fp16 use_bf16 dropout num_heads_upsample use_linear_in_transformer context_dim in_channels "
    "out_channels disable_text_ca spatial_transformer_attn_type"
)


def _yaml(path: Path) -> Hints:
    beside = [path.with_suffix(ending) for ending in (".yaml", ".yml")]
    files = [candidate for candidate in beside if candidate.is_file()]
    if not files:
        return Hints()
    with _named(files[0]):
        params = _at(_parsed(files[0]), "model", "params")
        return _from_yaml(params)


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from error


def _parsed(path: Path) -> dict[str, Any]:
    try:
        import yaml
    except ImportError as error:
        raise ValueError(
            "this configuration needs the package PyYAML; run: python -m pip install pyyaml"
        ) from error
    if path.stat().st_size > MAX_YAML:
        raise ValueError(f"more than {MAX_YAML} bytes")
    try:
        contents = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise ValueError("not YAML") from error
    return contents if isinstance(contents, dict) else {}


def _at(entry: Any, *names: str) -> dict[str, Any]:
    for name in names:
        entry = entry.get(name) if isinstance(entry, dict) else None
    return entry if isinstance(entry, dict) else {}


def _from_yaml(params: Mapping[str, Any]) -> Hints:
    known = {
        "parameterization", "linear_start", "linear_end", "timesteps", "beta_schedule", "scale_factor",
        "conditioning_key", "unet_config", "first_stage_config", "cond_stage_config",
        "rescale_betas_zero_snr", "zero_terminal_snr",
    }  # fmt: skip
    for name, value in params.items():
        if name not in known and name not in _YAML_TRAINING and value is not None and value is not False:
            raise ValueError(
                f"model.params.{name} = {quoted(str(value))} is not known here; remove it if it has no effect"
            )
    _one_of("conditioning_key", params.get("conditioning_key", "crossattn"), ("crossattn",))
    _one_of(
        "cond_stage_config.params.layer",
        _at(params, "cond_stage_config", "params").get("layer", "last"),
        ("last",),
    )
    scheduler: dict[str, Any] = {}
    if "parameterization" in params:
        scheduler["prediction_type"] = _prediction("parameterization", params["parameterization"])
    if params.get("rescale_betas_zero_snr") or params.get("zero_terminal_snr"):
        scheduler["rescale_betas_zero_snr"] = True
    scheduler |= _yaml_betas(params)
    options: dict[str, Mapping[str, Any]] = {UNET: _yaml_unet(_at(params, "unet_config", "params"))}
    if "scale_factor" in params:
        options[VAE] = {"scaling_factor": params["scale_factor"]}
    return Hints(scheduler, options)


def _yaml_betas(params: Mapping[str, Any]) -> dict[str, Any]:
    """Entries of the scheduler where the table is not that of Stable Diffusion."""
    schedule = _YAML_SCHEDULES.get(str(params.get("beta_schedule", "linear")))
    if schedule is None:
        raise ValueError(
            f"beta_schedule must be one of {', '.join(_YAML_SCHEDULES)}, got {params['beta_schedule']!r}"
        )
    names = {"linear_start": "beta_start", "linear_end": "beta_end", "timesteps": "num_train_timesteps"}
    said = {ours: params[theirs] for theirs, ours in names.items() if theirs in params}
    if schedule != "scaled_linear":
        said["beta_schedule"] = schedule
    usual = {"beta_start": 0.00085, "beta_end": 0.012, "num_train_timesteps": STEPS}
    return {name: value for name, value in said.items() if usual.get(name) != value}


def _yaml_unet(params: Mapping[str, Any]) -> dict[str, Any]:
    for name, value in params.items():
        if name in _YAML_UNET:
            _one_of(f"unet_config.params.{name}", value, _YAML_UNET[name])
        elif name not in _YAML_UNET_OTHER and value is not None and value is not False:
            raise ValueError(f"unet_config.params.{name} = {quoted(str(value))} is not known here")
    options = {ours: params[theirs] for theirs, ours in _YAML_UNET_SIZES.items() if theirs in params}
    heads = params.get("num_heads", UNetConfig.heads)
    return options | ({"attention_head_dim": heads} if heads != UNetConfig.heads else {})


def _one_of(name: str, value: Any, allowed: tuple[Any, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} must be {' or '.join(map(repr, allowed))}, got {quoted(str(value))}")
