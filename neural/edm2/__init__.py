"""EDM2 (Karras et al. 2024) in JAX: the published class-conditional networks as denoisers."""

from neural.edm2.architecture import Block, Config, read_config, tensor_shapes
from neural.edm2.denoiser import EDM2, from_tensors

__all__ = ["EDM2", "Block", "Config", "from_tensors", "read_config", "tensor_shapes"]
