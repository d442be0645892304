"""A vision network that judges images: features for distances between sets of images, logits for their class."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, UInt8

from gmm.checks import check_count
from neural.progress import Progress
from neural.stable_diffusion import layers as sd_layers
from neural.stable_diffusion.architecture import TextConfig
from neural.stable_diffusion.layers import Images, Weights
from neural.stable_diffusion.text_encoder import text_encoder
from neural.stable_diffusion.tokenizer import Tokenizer
from neural.vision import inception, transformer
from neural.vision.preprocessing import (
    DINOV2_CLASSIFIER,
    DINOV2_METRIC,
    INCEPTION,
    INCEPTION_TENSORFLOW,
    Preprocessing,
    clip_preprocessing,
)
from neural.vision.transformer import TransformerConfig

Family = Literal["dinov2", "clip", "inception"]
BATCH = 32


@dataclasses.dataclass(frozen=True, eq=False)
class TextTower:
    """CLIP's text encoder with its projection, for questions in words.

    Attributes:
        weights: by the checkpoint's names, the projection among them.
        config: sizes of the encoder.
        scale: inverse temperature of the cosines, exp(logit_scale).
        tokenizer: of the checkpoint's vocabulary; None where there was none beside the weights.
    """

    weights: Weights
    config: TextConfig
    scale: float
    tokenizer: Tokenizer | None


@dataclasses.dataclass(frozen=True, eq=False)
class VisionJudge:
    """A pretrained network that turns images into features, and into classes where it has a head.

    Attributes:
        family: "dinov2", "clip" or "inception".
        weights: by this project's names.
        config: sizes of the transformer; None of Inception.
        dtype: that it computes in.
        head_layers: how many layers' class tokens the linear head reads; 0 where there is no head.
        text: CLIP's text tower, where the file held one.
    """

    family: Family
    weights: Weights
    config: TransformerConfig | None
    dtype: np.dtype
    head_layers: int = 0
    text: TextTower | None = None

    @property
    def preprocessing(self) -> Preprocessing:
        """What `features` does to images first: the steps of the metric that uses these features."""
        if self.family == "clip":
            assert self.config is not None
            return clip_preprocessing(self.config.side)
        return DINOV2_METRIC if self.family == "dinov2" else INCEPTION

    @property
    def classes(self) -> int:
        """Number of the network's own classes, by its linear head; 0 where there is none."""
        biases = (self.weights[name] for name in ("head.bias", "fc.bias") if name in self.weights)
        return next((len(bias) for bias in biases), 0)

    def check_classes(self) -> None:
        """Raise ValueError where the network has no classes of its own."""
        if not self.head_layers:
            way = "ask CLIP by `prompt_logits`" if self.family == "clip" else "load it with its linear head"
            raise ValueError(f"this {self.family} network has no classes of its own; {way}")

    def forward(self, pixels: Float[ArrayLike, "n height width 3"]) -> Float[Array, "n F"]:
        """The features of normalised images.

        DINOv2: the normed class token. CLIP: the projected image embedding, not normalised to length one. Inception:
        the 2048 features after the last pooling, of images in [-1, 1].

        Raises:
            ValueError: when `pixels` are not (n, height, width, 3), or smaller than the network reads.
        """
        return _features(self.weights, self.config, self._checked(pixels))

    def features(
        self,
        images: UInt8[ArrayLike, "n height width 3"],
        *,
        batch: int = BATCH,
        preprocessing: Preprocessing | None = None,
        progress: Progress | None = None,
    ) -> Float[np.ndarray, "n F"]:
        """The features of 8-bit images, after the metric's own preprocessing.

        Args:
            images: (n, height, width, 3) of one size, 0..255.
            batch: images that are computed together.
            preprocessing: other steps than the metric's own; see `neural.vision.preprocessing`.
            progress: called with the number of images done and their total.

        Raises:
            ValueError: when `images` are not 8-bit colour images.
        """
        return self._in_batches(self.forward, images, batch, preprocessing or self.preprocessing, progress)

    def logits(
        self,
        images: UInt8[ArrayLike, "n height width 3"],
        *,
        batch: int = BATCH,
        progress: Progress | None = None,
    ) -> Float[np.ndarray, "n classes"]:
        """The logits of the network's own classes, after the classifier's preprocessing.

        Of DINOv2 these are ImageNet's 1000 classes, of Inception the 1008 outputs of the network of 2015.

        Raises:
            ValueError: when the network has no head, or as `features`.
        """
        self.check_classes()
        steps = DINOV2_CLASSIFIER if self.family == "dinov2" else INCEPTION
        ask = functools.partial(_logits, self.weights, self.config, self.head_layers)
        return self._in_batches(lambda pixels: ask(self._checked(pixels)), images, batch, steps, progress)

    def prompt_logits(
        self,
        images: UInt8[ArrayLike, "n height width 3"],
        prompts: Sequence[str],
        *,
        batch: int = BATCH,
        progress: Progress | None = None,
    ) -> Float[np.ndarray, "n prompts"]:
        """Scaled cosines between images and prompts: their softmax is CLIP's zero-shot posterior at equal priors.

        Raises:
            ValueError: when this is not CLIP with its text tower and vocabulary, or as `features`.
        """
        texts = self.text_features(prompts)
        return self.scaled_cosines(self.features(images, batch=batch, progress=progress), texts)

    def scaled_cosines(
        self, images: Float[np.ndarray, "n F"], texts: Float[np.ndarray, "prompts F"]
    ) -> Float[np.ndarray, "n prompts"]:
        """CLIP's logits of features of images against features of texts; raises ValueError without a text tower."""
        if self.text is None:
            raise ValueError(
                "prompts need CLIP with both towers; this network was loaded without its text tower"
            )
        images, texts = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (images, texts))
        return self.text.scale * images @ texts.T

    def text_features(self, prompts: Sequence[str]) -> Float[np.ndarray, "prompts F"]:
        """CLIP's projected text embeddings, not normalised.

        Raises:
            ValueError: when this is not CLIP with its text tower and vocabulary.
        """
        if self.text is None or self.text.tokenizer is None:
            lacks = "text tower" if self.text is None else "vocabulary (vocab.json and merges.txt)"
            raise ValueError(
                f"prompts need CLIP with both towers; this network was loaded without its {lacks}"
            )
        tokens = self.text.tokenizer(prompts)
        ends = np.argmax(tokens == self.text.tokenizer.vocabulary.end, axis=1)
        return np.asarray(_text_features(self.text.weights, self.text.config, self.dtype, tokens, ends))

    def _in_batches(
        self,
        ask: Callable[[Images], Array],
        images: UInt8[ArrayLike, "n height width 3"],
        batch: int,
        steps: Preprocessing,
        progress: Progress | None,
    ) -> np.ndarray:
        images = np.asarray(images)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3 or not len(images):
            raise ValueError(
                f"images must be 8-bit and of shape (n, height, width, 3), got {images.dtype} of shape {images.shape}"
            )
        check_count("batch", batch)
        results = []
        for start in range(0, len(images), batch):
            some = images[start : start + batch]
            # One compiled program: the last batch is filled up.
            full = np.resize(some, (batch, *some.shape[1:])) if len(images) > batch else some
            results.append(np.asarray(ask(steps(full)), np.float32)[: len(some)])
            if progress is not None:
                progress(start + len(some), len(images))
        return np.concatenate(results)

    def _checked(self, pixels: Float[ArrayLike, "n height width 3"]) -> Images:
        pixels = jnp.asarray(pixels).astype(self.dtype)
        least = inception.LEAST if self.config is None else self.config.patch
        if pixels.ndim != 4 or pixels.shape[-1] != 3 or min(pixels.shape[1:3]) < least:
            raise ValueError(
                f"pixels must have shape (n, height, width, 3) with sides of at least {least}, got {pixels.shape}"
            )
        return pixels


DINOV2_PILLOW = dataclasses.replace(DINOV2_METRIC, resize="pillow")
PREPROCESSING = {"dinov2-pillow": DINOV2_PILLOW, "inception-tensorflow": INCEPTION_TENSORFLOW}
"""Other steps that published numbers were computed with."""


@functools.partial(jax.jit, static_argnames="config")
def _features(weights: Weights, config: TransformerConfig | None, pixels: Images) -> Array:
    if config is None:
        return inception.features(weights, pixels)
    return transformer.class_token(weights, config, transformer.all_tokens(weights, config, pixels)[-1])


@functools.partial(jax.jit, static_argnames=("config", "layers"))
def _logits(weights: Weights, config: TransformerConfig | None, layers: int, pixels: Images) -> Array:
    if config is None:
        return inception.logits(weights, inception.features(weights, pixels))
    tokens = transformer.all_tokens(weights, config, pixels, layers)
    return transformer.linear_head(weights, config, tokens)


@functools.partial(jax.jit, static_argnames=("config", "dtype"))
def _text_features(
    weights: Weights, config: TextConfig, dtype: np.dtype, tokens: Array, ends: Array
) -> Array:
    states = text_encoder(weights, config, tokens, dtype)
    return sd_layers.linear(states[jnp.arange(len(ends)), ends], weights, "text_projection")
