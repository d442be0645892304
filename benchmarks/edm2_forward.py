"""How fast is an evaluation of EDM2-XS, beside the machine's own rates and the reference implementation?

    python -m benchmarks edm2_forward [--batch 1 4 16] [--dtype float32] [--reference DIR] [--clock wall] [--brief]

Weights are random: the time does not depend on them. Rivals run in turn within one process, ratios are within
a turn. The rivals of our forward pass are

- the machine's matrix product (2048 x 2048 float32), as a rate beside ours: 44.9 G multiply-adds an image;
- the network's convolutions alone, as XLA runs them one by one: what any direct evaluation pays;
- the same forward pass with weight normalisation inside, as in training: what folding saves;
- several classes on one state, shared (`denoise_classes`) and not;
- with `--reference DIR`, a checkout of NVlabs/edm2: its `training.networks_edm2.Precond` with the same
  weights under torch, in float32 on a CPU, on a GPU in float16 under torch.compile. It is not part of this
  project.

Peak memory is that of a process of its own for each batch size.
"""

import argparse
import importlib
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.harness import CLOCKS, in_turn, ratio, show
from neural.edm2 import EDM2, Config, from_tensors, tensor_shapes
from neural.edm2 import network as net
from neural.edm2.weights import normalised

XS = Config(64, 4, 1000, (128, 256, 384, 512), 3, (16, 8), 128, 512)
XS_ARGUMENTS = {"img_resolution": 64, "img_channels": 4, "label_dim": 1000, "model_channels": 128}
MULTIPLY_ADDS = 44.9e9
PRODUCT = 2048
CLASSES = 8

Call = Callable[[], object]


def random_tensors(seed: int = 0) -> dict[str, np.ndarray]:
    """A checkpoint of EDM2-XS with unit normal tensors."""
    rng = np.random.default_rng(seed)
    return {name: rng.standard_normal(shape, np.float32) for name, shape in tensor_shapes(XS).items()}


def run(
    batches: Sequence[int] = (1, 4, 16),
    dtype: str = "float32",
    reference: Path | None = None,
    repeats: int = 7,
    clock: str = "wall",
    brief: bool = False,
) -> None:
    """Print the tables, each batch size as soon as it is known."""
    tensors = random_tensors()
    model = from_tensors(tensors, dtype=dtype)
    for batch in batches:
        x = jax.random.normal(jax.random.key(batch), (batch, *XS.image_shape), jnp.float32)
        calls = {"product": matrix_product(dtype), "forward": lambda x=x: model.denoise(x, 1.0, 3)}
        if not brief:
            calls["convolutions"] = convolutions(model, batch)
        if reference is not None:
            calls["reference"] = reference_forward(reference, tensors, x)
            _show_difference(model.denoise(x, 1.0, 3), calls["reference"]())
        times = in_turn(calls, repeats, CLOCKS[clock])
        _show_row(dtype, clock, _row(batch, times, None if brief else peak_above_idle(batch, dtype)))
    if brief:
        return
    show("What shares and folds save", ("comparison", "ratio"), savings(model, tensors, repeats, clock))


def _show_difference(ours: jax.Array, reference: Any) -> None:
    # Rivals that do not compute the same are none.
    theirs = np.moveaxis(reference.float().cpu().numpy(), 1, -1)
    difference = np.abs(np.asarray(ours) - theirs).max() / np.abs(theirs).max()
    print(f"batch {len(theirs)}: largest difference from the reference's images {difference:.1e}")


def _show_row(dtype: str, clock: str, row: tuple[str, ...]) -> None:
    show(
        f"EDM2-XS, {dtype}, {jax.default_backend()}; {clock} times as ratios within a turn, median (quartiles)",
        (
            "batch",
            "images/s",
            "rate / product's",
            "forward / convolutions",
            "forward / reference",
            "peak GiB",
        ),
        [row],
    )


def _row(batch: int, times: dict[str, np.ndarray], peak: float | None) -> tuple[str, ...]:
    forward = times["forward"]
    # Rates: work over time, ours over the product's.
    ideal = times["product"] * (batch * MULTIPLY_ADDS / PRODUCT**3)

    def against(rival: str) -> str:
        return ratio(forward, times[rival]) if rival in times else "not measured"

    return (
        str(batch),
        f"{batch / np.median(forward):.2f}",
        ratio(ideal, forward),
        against("convolutions"),
        against("reference"),
        "not measured" if peak is None else f"{peak:.2f}",
    )


def matrix_product(dtype: str) -> Call:
    """A square product, the machine's own rate."""
    a = jax.random.normal(jax.random.key(0), (PRODUCT, PRODUCT), jnp.float32).astype(dtype)
    product = jax.jit(jnp.matmul)
    return lambda: product(a, a)


def convolutions(model: EDM2, batch: int) -> Call:
    """Every convolution of the network on an input of its shape, one after the other, by XLA alone."""
    shapes, layers = tensor_shapes(XS), []
    for block in (*XS.encoder(), *XS.decoder()):
        for leaf in ("conv_res0", "conv_res1", "conv_skip", "attn_qkv", "attn_proj"):
            name = f"{block.name}.{leaf}.weight"
            if name in shapes:
                layers.append((name, block.resolution, shapes[name][1]))
    inputs = {(r, c): jnp.ones((batch, r, r, c), model.dtype) for _, r, c in layers}

    @jax.jit
    def evaluate(weights: net.Weights, inputs: dict) -> list[jax.Array]:
        # One number of each output: nothing is computed in vain, nothing large is kept.
        return [net.direct_conv(inputs[r, c], weights[name])[0, 0, 0, 0] for name, r, c in layers]

    return lambda: evaluate(model.weights, inputs)


def savings(
    model: EDM2, tensors: dict[str, np.ndarray], repeats: int, clock: str = "wall"
) -> list[tuple[str, str]]:
    """Ratios of what is shared or folded to what is not."""
    x = jax.random.normal(jax.random.key(0), (1, *XS.image_shape), jnp.float32)
    labels = jnp.arange(CLASSES)
    raw = {name: jnp.asarray(tensors[name]) for name in model.weights if tensors[name].ndim == 4}

    @jax.jit
    def unfolded(weights: net.Weights, raw: net.Weights, x: jax.Array) -> jax.Array:
        layers = {k: normalised(w).transpose(2, 3, 1, 0).astype(model.dtype) for k, w in raw.items()}
        emb = net.embed(weights, XS, jnp.zeros(1), jnp.zeros(1, int))
        return net.unet({**weights, **layers}, XS, x.astype(model.dtype), emb)

    together = f"{CLASSES} classes of one state"
    times = in_turn(
        {
            "folded": lambda: model.denoise(x, 1.0, 3),
            "unfolded": lambda: unfolded(model.weights, raw, x),
            together: lambda: model.denoise_classes(x, 1.0, labels),
            "repeated": lambda: model.denoise(x.repeat(CLASSES, 0), 1.0, labels),
        },
        repeats,
        CLOCKS[clock],
    )
    return [
        (
            "weights folded at load / normalised in the forward pass, batch 1",
            ratio(times["folded"], times["unfolded"]),
        ),
        (f"{together} / the state repeated", ratio(times[together], times["repeated"])),
    ]


def reference_forward(checkout: Path, tensors: dict[str, np.ndarray], x: jax.Array) -> Call:
    """The reference implementation on the same weights and inputs, from a checkout that the user has."""
    torch = importlib.import_module("torch")
    sys.path.insert(0, str(checkout))
    precond = importlib.import_module("training.networks_edm2").Precond
    gpu = torch.cuda.is_available()
    network = precond(**XS_ARGUMENTS, use_fp16=gpu).eval().requires_grad_(False)
    network.load_state_dict({name: torch.from_numpy(tensor) for name, tensor in tensors.items()})
    device = torch.device("cuda" if gpu else "cpu")
    network = network.to(device)
    images = torch.from_numpy(np.moveaxis(np.asarray(x), -1, 1).copy()).to(device)
    sigma = torch.ones(len(images), device=device)
    labels = torch.nn.functional.one_hot(torch.full((len(images),), 3), 1000).float().to(device)
    forward = torch.compile(network) if gpu else network

    def call() -> Any:
        with torch.inference_mode():
            denoised = forward(images, sigma, labels)
        if gpu:
            torch.cuda.synchronize()
        return denoised

    return call


PEAK = """
import sys
from pathlib import Path
import jax, numpy as np
from benchmarks.edm2_forward import XS, random_tensors
from benchmarks.harness import peak_memory
from neural.edm2 import from_tensors
batch, dtype = int(sys.argv[1]), sys.argv[2]
jax.block_until_ready(jax.numpy.ones(1))
idle = peak_memory()
model = from_tensors(random_tensors(), dtype=dtype)
x = np.ones((batch, *XS.image_shape), np.float32)
jax.block_until_ready(model.denoise(x, 1.0, 3))
Path("/proc/self/clear_refs").write_text("5")  # reset the peak of loading and compiling
jax.block_until_ready(model.denoise(x, 1.0, 3))
print(peak_memory() - idle)
"""


def peak_above_idle(batch: int, dtype: str) -> float:
    """Peak resident memory of a forward pass with its weights, GiB above an idle process with jax."""
    command = [sys.executable, "-c", PEAK, str(batch), dtype]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout) / 2**30


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
    parser.add_argument(
        "--reference", type=Path, metavar="DIR", help="a checkout of NVlabs/edm2 (needs torch)"
    )
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--clock", default="wall", choices=CLOCKS, help="cpu: on a busy machine, on one core")
    parser.add_argument("--brief", action="store_true", help="the forward pass, product and reference alone")
    chosen = parser.parse_args(arguments)
    run(chosen.batch, chosen.dtype, chosen.reference, chosen.repeats, chosen.clock, chosen.brief)


if __name__ == "__main__":
    main()
