"""What becomes of 8-bit images before a network sees them: exactly the steps of the metric or judge that uses it.

Fréchet distance of DINOv2 features (Karras et al. 2024, EDM2): bicubic with anti-aliasing to 224x224, not rounded,
then ImageNet's mean and deviation. After Stein et al. 2023 ("pillow"): Pillow's bicubic to 224x224, which rounds to 8
bits. DINOv2's linear classifier: Pillow's bicubic to 256 on the short side, and the middle 224x224. CLIP: the same to
the side of the network, with CLIP's mean and deviation. Fréchet inception distance: bilinear without anti-aliasing to
299x299 and [-1, 1], as its PyTorch port; or from the corner of pixels and (x - 128)/128, as TensorFlow's original.
"""

import dataclasses
from typing import Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from neural.vision.resampling import centre_crop, pillow_resized, resize, short_side

Resize = Literal["bicubic", "pillow", "pillow-crop", "bilinear", "tensorflow"]
Three = tuple[float, float, float]

IMAGENET: tuple[Three, Three] = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and standard deviation of ImageNet's training images by channel, in 0..1."""
CLIP: tuple[Three, Three] = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
"""The same of the images that CLIP was trained on."""
HALF: tuple[Three, Three] = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
_MIDDLE = 128 / 255
MIDDLE: tuple[Three, Three] = ((_MIDDLE, _MIDDLE, _MIDDLE), (_MIDDLE, _MIDDLE, _MIDDLE))


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """From 8-bit images to the pixels that a network reads.

    Attributes:
        resize: how images are brought to size; see the module's table.
        side: pixels along a side of the result.
        short: length that the short side is brought to before the crop of "pillow-crop".
        mean, deviation: of each channel, in 0..1; pixels are (x/255 - mean)/deviation.
    """

    resize: Resize
    side: int
    mean: Three
    deviation: Three
    short: int = 0

    def __call__(self, images: UInt8[np.ndarray, "n height width 3"]) -> Float[Array, "n side side 3"]:
        """The normalised pixels of images of one size, (n, height, width, 3) in 0..255."""
        pixels = jnp.asarray(self._resized(images), jnp.float32) / 255
        mean, deviation = (jnp.asarray(v, jnp.float32)[None, None, None] for v in (self.mean, self.deviation))
        return (pixels - mean) / deviation

    def _resized(self, images: UInt8[np.ndarray, "n height width 3"]) -> Float[Array, "..."] | np.ndarray:
        size = (self.side, self.side)
        if self.resize == "pillow":
            return pillow_resized(images, size)
        if self.resize == "pillow-crop":
            return centre_crop(pillow_resized(images, short_side(images.shape[1:3], self.short)), self.side)
        levels = jnp.asarray(images, jnp.float32)
        if self.resize == "bicubic":
            return resize(levels, size, "bicubic", antialias=True)
        return resize(
            levels, size, "bilinear", centres="corner" if self.resize == "tensorflow" else "half-pixel"
        )


DINOV2_METRIC = Preprocessing("bicubic", 224, *IMAGENET)
DINOV2_CLASSIFIER = Preprocessing("pillow-crop", 224, *IMAGENET, short=256)
INCEPTION = Preprocessing("bilinear", 299, *HALF)
INCEPTION_TENSORFLOW = Preprocessing("tensorflow", 299, *MIDDLE)


def clip_preprocessing(side: int) -> Preprocessing:
    """CLIP's, for a network that reads images of `side` pixels."""
    return Preprocessing("pillow-crop", side, *CLIP, short=side)
