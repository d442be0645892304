"""Checkpoints: bytes to named arrays and plain attributes. Nothing in a file is executed."""

from neural.checkpoints.checkpoint import Checkpoint, CheckpointError
from neural.checkpoints.formats import read
from neural.checkpoints.hub import fetch, verify
from neural.checkpoints.kept import read_kept, write_kept
from neural.checkpoints.origin import hashes, portable
from neural.checkpoints.presets import PRESETS, Preset, Published, cache_folder, locate, sibling
from neural.checkpoints.safetensors_files import read_safetensors, write_safetensors
from neural.checkpoints.torch_files import read_torch_pickle

__all__ = [
    "PRESETS",
    "Checkpoint",
    "CheckpointError",
    "Preset",
    "Published",
    "cache_folder",
    "fetch",
    "hashes",
    "locate",
    "portable",
    "read",
    "read_kept",
    "read_safetensors",
    "read_torch_pickle",
    "sibling",
    "verify",
    "write_kept",
    "write_safetensors",
]
