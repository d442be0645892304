"""Vision networks at full size with random weights, beside transformers and pytorch-fid under torch.

Both compute features of normalised images of the size that the metrics use; resizing is left out. Modules of torch are
made first and written as files, which ours reads, so that rivals have the same weights; the largest difference of their
features stands beside the times. Without torch only Inception-v3 is timed, without a rival.
"""

import argparse
import importlib
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.harness import CLOCKS, in_turn, ratio, show
from benchmarks.sd15_forward import NO_RIVALS, has_rivals, matrix_product
from neural.checkpoints import write_safetensors
from neural.vision.judge import VisionJudge
from neural.vision.loading import load_judge

Call = Callable[[], object]
SIZES = {"dinov2-s": (384, 12, 6), "dinov2-b": (768, 12, 12), "dinov2-l": (1024, 24, 16)}
"""Width, layers and heads."""
NETWORKS = ("dinov2-b", "dinov2-l", "clip-l", "inception-fid")
SIDE = {"inception-fid": 299}
USUAL_SIDE = 224
PUBLISHED_SIDE = 518
"""Pixels for which DINOv2's positions were learnt; they are interpolated to 224."""


def images(name: str, batch: int) -> np.ndarray:
    """Normalised images (batch, side, side, 3)."""
    side = SIDE.get(name, USUAL_SIDE)
    return np.random.default_rng(1).uniform(-1, 1, (batch, side, side, 3)).astype(np.float32)


def module_of(name: str) -> Any:
    """The network under torch, with random weights."""
    oracles: Any = importlib.import_module("tests.neural.stable_diffusion.oracles")
    transformers = oracles.transformers
    oracles.torch.manual_seed(0)
    if name == "inception-fid":
        rule = importlib.import_module("tests.neural.vision.rule")
        return importlib.import_module("tests.neural.vision.pytorch_fid_network").fid_network(rule.tensors())
    if name == "clip-l":
        config = transformers.CLIPVisionConfig(
            hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16, patch_size=14,
            projection_dim=768,
        )  # fmt: skip
        return transformers.CLIPVisionModelWithProjection(config).eval()
    width, layers, heads = SIZES[name]
    sizes = {"hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": heads}
    config = transformers.Dinov2Config(**sizes, image_size=PUBLISHED_SIDE, patch_size=14)
    return transformers.Dinov2Model(config).eval()


def judge_of(name: str, module: Any) -> VisionJudge:
    """Our network with the weights of torch's; Inception's follow a rule."""
    with tempfile.TemporaryDirectory() as folder:
        if name != "inception-fid":
            module.save_pretrained(folder)
            return load_judge(folder)
        rule = importlib.import_module("tests.neural.vision.rule")
        write_safetensors(Path(folder) / "inception.safetensors", rule.tensors(), {})
        return load_judge(Path(folder) / "inception.safetensors")


def ours(judge: VisionJudge, given: np.ndarray) -> Call:
    """Features by our network, as a call without arguments."""
    pixels = jnp.asarray(given)
    return lambda: judge.forward(pixels)


def theirs(name: str, module: Any, given: np.ndarray) -> Call:
    """Features under torch, as a call without arguments."""
    torch = importlib.import_module("torch")
    pixels = torch.from_numpy(np.moveaxis(given, -1, 1).copy())
    ask = {
        "inception-fid": lambda: module((pixels + 1) / 2)[0][:, :, 0, 0],
        "clip-l": lambda: module(pixels).image_embeds,
    }.get(name, lambda: module(pixels).pooler_output)

    def call() -> Any:
        with torch.inference_mode():
            return ask()

    return call


def run(networks: Sequence[str] = NETWORKS, batch: int = 8, repeats: int = 5, clock: str = "wall") -> None:
    """Print the table."""
    rows = [_row(name, batch, repeats, clock) for name in networks if has_rivals() or name in SIDE]
    show(
        f"Vision networks, batch {batch}, float32, {jax.default_backend()}, {clock} time; ratios in a turn, median "
        "(quartiles)",
        ("network", "seconds", "in products", "ours / torch", "largest difference"),
        rows,
    )


def _row(name: str, batch: int, repeats: int, clock: str) -> tuple[str, ...]:
    module = module_of(name) if has_rivals() else None
    judge, given = judge_of(name, module), images(name, batch)
    calls = {"product": matrix_product("float32"), "ours": ours(judge, given)}
    apart = "-"
    if module is not None:
        calls["theirs"] = theirs(name, module, given)
        expected = np.asarray(calls["theirs"]())
        apart = f"{np.abs(np.asarray(calls['ours']()) - expected).max() / np.abs(expected).max():.1e}"
    times = in_turn(calls, repeats, CLOCKS[clock])
    against = ratio(times["ours"], times["theirs"]) if module is not None else NO_RIVALS
    in_products = f"{np.median(times['ours'] / times['product']):.1f}"
    return name, f"{np.median(times['ours']):.2f}", in_products, against, apart


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=(*SIZES, *NETWORKS[2:]))
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--clock", default="wall", choices=tuple(CLOCKS), help="cpu: with taskset -c 0")
    chosen = parser.parse_args(arguments)
    run(chosen.networks, chosen.batch, chosen.repeats, chosen.clock)


if __name__ == "__main__":
    main()
