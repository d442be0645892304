"""EDM2 (Karras et al. 2024) in JAX: the published class-conditional networks as denoisers."""

from neural.edm2.architecture import Block, Config, read_config, tensor_shapes
from neural.edm2.denoiser import EDM2, from_tensors
from neural.edm2.loading import check_network, load_edm2

__all__ = [
    "EDM2",
    "Block",
    "Config",
    "check_network",
    "from_tensors",
    "load_edm2",
    "read_config",
    "tensor_shapes",
]
