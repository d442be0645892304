"""Stable Diffusion 1.5 as a denoiser: prompts, time steps, and the network's output turned into E[x_0 | x_t, prompt].

Of x_t = α x_0 + σ ε the network predicts the noise ε, so that E[x_0 | x_t] = (x_t - σ ε)/α, or v = α ε - σ x_0,
so that E[x_0 | x_t] = α x_t - σ v, or x_0 itself. That is computed in at least float32 whatever the network
computes in: at late times α is small and divides the rounding of ε.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int

from gmm.checks import check_detached, check_values, is_concrete
from gmm.process import DDPM
from neural.arithmetic import wide
from neural.stable_diffusion.architecture import TextConfig, UNetConfig
from neural.stable_diffusion.autoencoder import VAE, check_images
from neural.stable_diffusion.layers import Weights
from neural.stable_diffusion.scheduler import EPSILON, SAMPLE, VELOCITY
from neural.stable_diffusion.text_encoder import text_encoder
from neural.stable_diffusion.tokenizer import WITHOUT_LIBRARY, Tokenizer, has_library
from neural.stable_diffusion.unet import KeysValues, text_keys, unet

Latents = Float[Array, "n height width channels"] | Float[np.ndarray, "n height width channels"]
Times = Float[ArrayLike, ""] | Float[ArrayLike, " n"]

NO_TEXT = ""
"""The prompt that stands for no condition: in training a tenth of the texts were empty."""


@functools.partial(jax.tree_util.register_dataclass, data_fields=["states", "keys"], meta_fields=[])
@dataclasses.dataclass(frozen=True, eq=False)
class Prompts:
    """Encoded prompts; a pytree whose leaves have one leading axis, the prompts (none for a single one).

    Attributes:
        states: (K, 77, 768) states of the text encoder.
        keys: the keys and values of the text in every attention of the U-Net, computed once for all steps.
    """

    states: Float[Array, "*k tokens width"]
    keys: KeysValues

    def __len__(self) -> int:
        return self.states.shape[0]


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes of the networks around the latents.

    Attributes:
        unet, text: of the networks.
        sample_size: latents along a side that the network was trained on.
        prediction: what the U-Net predicts: "epsilon", "v" or "sample".
        empty: tokens of the empty prompt; () where they are unknown.
    """

    unet: UNetConfig
    text: TextConfig
    sample_size: int = 64
    prediction: str = EPSILON
    empty: tuple[int, ...] = ()


class _Prompting:
    """The part of a denoiser that needs a U-Net and its process, but no text encoder."""

    unet_weights: Weights
    process: DDPM
    config: Config
    dtype: np.dtype

    @property
    def state_shape(self) -> tuple[int, int, int]:
        """(H, W, C) of one image's latents."""
        return (self.config.sample_size, self.config.sample_size, self.config.unet.in_channels)

    def _check(self, x: Latents, t: Times) -> Float[Array, " n"]:
        multiple = 2 ** (len(self.config.unet.widths) - 1)
        check_images("x", x, self.config.unet.in_channels, multiple)
        check_detached("t", t)
        t = t if isinstance(t, jax.Array) else np.asarray(t)
        if np.shape(t) not in ((), np.shape(x)[:1]):
            raise ValueError(f"t must have shape () or ({np.shape(x)[0]},), got {np.shape(t)}")
        last = self.process.t_max
        check_values("t", t, f"a time step in 0..{last:g}", lambda a: (a >= 0) & (a <= last))
        t = jnp.asarray(t, _real(t.dtype))
        return jnp.broadcast_to(t, np.shape(x)[:1])

    def _denoise(self, x: Latents, t: Times, prompts: Prompts) -> Float[Array, "n h w c"]:
        t = self._check(x, t)
        prompts = _for_batch(prompts, np.shape(x)[0])
        denoised = _denoise(
            self.unet_weights,
            self.process,
            jnp.asarray(x),
            t,
            prompts.keys,
            config=self.config,
            dtype=self.dtype,
        )
        if self.dtype == np.float16 and is_concrete(denoised) and not bool(jnp.isfinite(denoised).all()):
            self._explain(x, t, prompts)
        return denoised

    def _explain(self, x: Latents, t: Float[Array, " n"], prompts: Prompts) -> None:
        places = _finite_places(
            self.unet_weights, jnp.asarray(x), t, prompts.keys, config=self.config.unet, dtype=self.dtype
        )
        where = next((name for name, finite in places.items() if not finite), "the division by alpha")
        raise ValueError(
            f"float16 overflows: the output of {where} is not finite at t = {float(t[0]):g}; "
            "load with dtype='bfloat16' (or float32)"
        )


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["unet_weights", "text_weights", "vae", "process"],
    meta_fields=["config", "dtype", "tokenizer"],
)
@dataclasses.dataclass(frozen=True, eq=False)
class SD15(_Prompting):
    """Stable Diffusion 1.5 as a denoiser; a pytree of its weights.

    States are latents in the scaling of the diffusion (0.18215 times the autoencoder's), NHWC; times are steps,
    0..999, fractional ones allowed. Functions are jitted once per shape and may be called inside other
    transformations with encoded prompts, but not with strings.

    Attributes:
        unet_weights, text_weights: by the checkpoint's names.
        vae: the autoencoder.
        process: the forward process.
        config: sizes.
        dtype: to compute in.
        tokenizer: from texts to tokens; None without a vocabulary.
    """

    unet_weights: Weights
    text_weights: Weights
    vae: VAE
    process: DDPM
    config: Config
    dtype: np.dtype
    tokenizer: Tokenizer | None

    def __repr__(self) -> str:
        size, _, channels = self.state_shape
        predicts = "" if self.config.prediction == EPSILON else f", prediction={self.config.prediction!r}"
        return f"SD15({size}x{size}x{channels}, widths={self.config.unet.widths}{predicts}, {self.dtype})"

    @property
    def conditions(self) -> tuple[str, ...]:
        """Empty: every text is a condition, so that they cannot be listed."""
        return ()

    @property
    def unconditional(self) -> "Unconditional":
        """The denoiser under the empty prompt, which is encoded once."""
        return Unconditional(self.unet_weights, self.process, self._empty(), self.config, self.dtype)

    def denoise(self, x: Latents, t: Times, condition: Any = None) -> Float[Array, "n h w c"]:
        """E[x_0 | x_t, prompt].

        Args:
            x: (n, H, W, 4) noisy latents, scaled.
            t: () or (n,) time steps.
            condition: a prompt for all states or a list of n; prompts from `encode`, n or one; or states of the
                text encoder, (n, 77, 768) or (77, 768). None is the empty prompt.

        Returns:
            (n, H, W, 4), in the type of x, but at least float32.

        Raises:
            ValueError: when a shape does not fit, a time is not one of the process, prompts are given but there
                is no vocabulary, or float16 overflows (with the place).
        """
        return self._denoise(x, t, self._prompts(condition))

    def encode(self, conditions: Any) -> Prompts:
        """Prompts, encoded once for as many steps as they are used in.

        Args:
            conditions: texts, or one text, which is one prompt; None is the empty one. States (K, 77, 768) are
                taken as they are.

        Raises:
            ValueError: as `denoise`.
        """
        if isinstance(conditions, Prompts):
            return conditions
        if conditions is None or isinstance(conditions, str):
            conditions = [conditions]
        if not _are_texts(conditions):
            return self._from_states(conditions)
        texts = [NO_TEXT if text is None else text for text in conditions]
        if not texts:
            raise ValueError("conditions must name at least one prompt, got none")
        return self._from_states(self.text_encoder(self._tokens(texts)))

    def tokenize(self, texts: str | Sequence[str]) -> Int[np.ndarray, "n tokens"]:
        """The tokens of texts, (n, 77).

        Raises:
            ValueError: when there is no vocabulary, the package `tokenizers` is missing, or something is no text.
        """
        if self.tokenizer is None:
            if not has_library():
                raise ValueError(WITHOUT_LIBRARY)
            raise ValueError(
                f"prompts need the model's vocabulary, and none was found; {_VOCABULARY}, or pass encoded prompts"
            )
        return self.tokenizer(texts)

    def text_encoder(self, token_ids: Int[ArrayLike, "n tokens"]) -> Float[Array, "n tokens width"]:
        """States of tokens: the last layer's, after the final norm.

        Args:
            token_ids: (n, T), T <= 77.

        Returns:
            (n, T, 768), in at least float32.

        Raises:
            ValueError: when the shape does not fit or a token does not exist.
        """
        ids, config = jnp.asarray(token_ids), self.config.text
        if (
            ids.ndim != 2
            or not 0 < ids.shape[1] <= config.positions
            or not jnp.issubdtype(ids.dtype, jnp.integer)
        ):
            allowed = f"integers of shape (n, T), T <= {config.positions}"
            raise ValueError(f"token_ids must be {allowed}, got {ids.dtype} of shape {ids.shape}")
        last = config.vocabulary - 1
        check_values("token_ids", ids, f"in 0..{last}", lambda a: (a >= 0) & (a <= last))
        return _text_states(self.text_weights, ids, config=config, dtype=self.dtype)

    def unet(
        self, latents: Latents, timesteps: Times, text_states: Float[ArrayLike, "n tokens width"] | Prompts
    ) -> Float[Array, "n h w c"]:
        """The output of the U-Net, (n, H, W, 4) in the type of the latents, but at least float32.

        It is the predicted noise, or what `Config.prediction` names.

        Args:
            latents: (n, H, W, 4), scaled.
            timesteps: () or (n,).
            text_states: of the text encoder, (n, 77, 768), or one text's for all; or prompts from `encode`.

        Raises:
            ValueError: when a shape does not fit.
        """
        t = self._check(latents, timesteps)
        prompts = _for_batch(self._prompts(text_states), np.shape(latents)[0])
        return _output(
            self.unet_weights,
            jnp.asarray(latents),
            t,
            prompts.keys,
            config=self.config.unet,
            dtype=self.dtype,
        )

    def vae_encode(self, images: Latents) -> Float[Array, "n h w c"]:
        """Posterior mean of the latents of pictures in [-1, 1], unscaled; see `VAE.encode`."""
        return self.vae.encode(images)

    def vae_decode(self, latents: Latents) -> Float[Array, "n H W 3"]:
        """Raw pictures of unscaled latents, not clamped; see `VAE.decode`."""
        return self.vae.decode(latents)

    def pictures(self, latents: Latents) -> Float[Array, "n H W 3"]:
        """Pictures in [0, 1] of latents in the scaling of the diffusion."""
        raw = self.vae.decode(jnp.asarray(latents) / self.vae.config.scaling_factor)
        return jnp.clip(raw / 2 + 0.5, 0, 1)

    def _empty(self) -> Prompts:
        return self._from_states(self.text_encoder(self._empty_tokens(1)))

    def _empty_tokens(self, count: int) -> Int[np.ndarray, "n tokens"]:
        if not self.config.empty:
            raise ValueError(
                "the empty prompt needs the model's vocabulary, because its start and end are not the published ones; "
                f"{_VOCABULARY}"
            )
        return np.tile(np.array(self.config.empty, np.int32), (count, 1))

    def _tokens(self, texts: Sequence[str]) -> Int[np.ndarray, "n tokens"]:
        if self.tokenizer is None and all(isinstance(text, str) and text == NO_TEXT for text in texts):
            return self._empty_tokens(len(texts))
        return self.tokenize(texts)

    def _prompts(self, condition: Any) -> Prompts:
        if condition is None or isinstance(condition, str | Prompts) or _are_texts(condition):
            return self.encode(condition)
        check_detached("condition", condition)
        states = jnp.asarray(condition)
        return self._from_states(states[None] if states.ndim == 2 else states)

    def _from_states(self, states: Float[ArrayLike, "k tokens width"]) -> Prompts:
        states = jnp.asarray(states)
        if states.ndim != 3 or states.shape[2] != self.config.unet.context:
            width = self.config.unet.context
            raise ValueError(f"text states must have shape (n, tokens, {width}), got {states.shape}")
        keys = _text_keys(self.unet_weights, states, config=self.config.unet, dtype=self.dtype)
        return Prompts(states, keys)


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["unet_weights", "process", "empty"],
    meta_fields=["config", "dtype"],
)
@dataclasses.dataclass(frozen=True, eq=False)
class Unconditional(_Prompting):
    """The denoiser under the empty prompt.

    Attributes:
        unet_weights, process, config, dtype: of the model.
        empty: the empty prompt, encoded.
    """

    unet_weights: Weights
    process: DDPM
    empty: Prompts
    config: Config
    dtype: np.dtype

    @property
    def conditions(self) -> tuple[str, ...]:
        """None."""
        return ()

    def denoise(self, x: Latents, t: Times, condition: None = None) -> Float[Array, "n h w c"]:
        """E[x_0 | x_t]; see `SD15.denoise`."""
        return self._denoise(x, t, self.empty)


_VOCABULARY = (
    "put vocab.json and merges.txt into a folder `tokenizer` beside the weights, or use "
    "load_sd15(..., tokenizer=FOLDER)"
)


def _are_texts(conditions: Any) -> bool:
    """Whether conditions are texts and None, in a sequence or in an array of NumPy, rather than states."""
    if isinstance(conditions, np.ndarray):
        return conditions.ndim == 1 and conditions.dtype.kind in "UTO"
    if not isinstance(conditions, list | tuple):
        return False
    return not conditions or any(isinstance(text, str | None) for text in conditions)


def _real(dtype: np.dtype) -> np.dtype:
    """`dtype`, but at least float32; for integers the default float."""
    real = wide(dtype) if jnp.issubdtype(dtype, jnp.floating) else np.dtype(float)
    return jax.dtypes.canonicalize_dtype(real)


def _for_batch(prompts: Prompts, n: int) -> Prompts:
    """Prompts with a leading axis of 1 or n."""
    if prompts.states.ndim == 2:
        prompts = jax.tree.map(lambda leaf: leaf[None], prompts)
    if len(prompts) not in (1, n):
        raise ValueError(f"there must be one prompt or one for each of the {n} states, got {len(prompts)}")
    return prompts


@functools.partial(jax.jit, static_argnames=("config", "dtype"))
def _text_states(weights: Weights, ids: Array, *, config: TextConfig, dtype: np.dtype) -> Array:
    return text_encoder(weights, config, ids, dtype).astype(wide(dtype))


@functools.partial(jax.jit, static_argnames=("config", "dtype"))
def _text_keys(weights: Weights, states: Array, *, config: UNetConfig, dtype: np.dtype) -> KeysValues:
    return text_keys(weights, config, states.astype(dtype))


@functools.partial(jax.jit, static_argnames=("config", "dtype"))
def _output(
    weights: Weights, x: Array, t: Array, keys: KeysValues, *, config: UNetConfig, dtype: np.dtype
) -> Float[Array, "n h w c"]:
    output = unet(weights, config, x.astype(dtype), t, keys)
    return output.astype(_real(x.dtype))


@functools.partial(jax.jit, static_argnames=("config", "dtype"))
def _denoise(
    weights: Weights,
    process: DDPM,
    x: Array,
    t: Array,
    keys: KeysValues,
    *,
    config: Config,
    dtype: np.dtype,
) -> Float[Array, "n h w c"]:
    x = x.astype(_real(x.dtype))
    output = unet(weights, config.unet, x.astype(dtype), t, keys).astype(x.dtype)
    alpha, sigma = (part(t).astype(x.dtype)[:, None, None, None] for part in (process.alpha, process.sigma))
    if config.prediction == SAMPLE:
        return output
    return alpha * x - sigma * output if config.prediction == VELOCITY else (x - sigma * output) / alpha


def _finite_places(
    weights: Weights, x: Array, t: Array, keys: KeysValues, *, config: UNetConfig, dtype: np.dtype
) -> dict[str, bool]:
    """Whether the output of every block is finite, in the order of execution."""
    names: list[str] = []

    @jax.jit
    def run(weights: Weights, x: Array, t: Array, keys: KeysValues) -> Array:
        record: dict[str, Array] = {}
        unet(weights, config, x.astype(dtype), t, keys, record)
        names.extend(record)
        # A compiler may keep what is in float16 in float32 in between; here it is rounded for certain.
        rounded = (jax.lax.reduce_precision(value.astype(jnp.float32), 5, 10) for value in record.values())
        return jnp.stack([jnp.isfinite(value).all() for value in rounded])

    return dict(zip(names, np.asarray(run(weights, x, t, keys)).tolist(), strict=True))
