"""Vision networks as judges of a class: log posteriors of given classes or prompts, and of none of them."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from neural.pictures import ToPictures
from neural.uturn import Judge
from neural.vision.judge import BATCH, VisionJudge


def class_judge(judge: VisionJudge, pictures: ToPictures, classes: Sequence[int]) -> Judge:
    """A judge of some of the network's own classes against all others, by its linear head.

    Args:
        judge: a network with a head, such as DINOv2 for ImageNet.
        pictures: clean states -> 8-bit images.
        classes: numbers of the head's classes; the last log posterior is that of all others together.

    Raises:
        ValueError: when the network has no head, or not as many classes.
    """
    index = np.asarray(classes)
    judge.check_classes()
    if index.max() >= judge.classes:
        raise ValueError(
            f"classes must be below {judge.classes}, the judge's own number of classes, got {index.max()}"
        )

    def log_posterior(x: Float[Array, "n ..."]) -> Float[Array, "n C"]:
        images = _colour(pictures(x))
        logits = judge.logits(images, batch=min(BATCH, len(images)))
        log_p = jax.nn.log_softmax(jnp.asarray(logits, float), axis=1)
        others = np.setdiff1d(np.arange(logits.shape[1]), index)
        rest = jax.nn.logsumexp(log_p[:, others], axis=1, keepdims=True)
        return jnp.concatenate([log_p[:, index], rest], axis=1)

    return log_posterior


def prompt_judge(
    judge: VisionJudge, pictures: ToPictures, prompts: Sequence[str], others: Sequence[str]
) -> Judge:
    """CLIP's zero-shot posterior of some prompts against other ones, which stand for the rest.

    Args:
        judge: CLIP with both towers.
        pictures: clean states -> 8-bit images.
        prompts: whose posteriors are wanted.
        others: prompts of everything else; the last log posterior is that of all of them together.

    Raises:
        ValueError: when this is not CLIP with its text tower and vocabulary.
    """
    texts = judge.text_features([*prompts, *others])

    def log_posterior(x: Float[Array, "n ..."]) -> Float[Array, "n C"]:
        images = _colour(pictures(x))
        logits = judge.scaled_cosines(judge.features(images, batch=min(BATCH, len(images))), texts)
        log_p = jax.nn.log_softmax(jnp.asarray(logits, float), axis=1)
        rest = jax.nn.logsumexp(log_p[:, len(prompts) :], axis=1, keepdims=True)
        return jnp.concatenate([log_p[:, : len(prompts)], rest], axis=1)

    return log_posterior


def _colour(images: np.ndarray) -> np.ndarray:
    """Grey images as colour images."""
    return np.repeat(images, 3, axis=-1) if images.shape[-1] == 1 else images
