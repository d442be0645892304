"""The parts of `benchmarks.accelerator`, each in a process of its own: one result a line, as JSON.

    python -m benchmarks.accelerator_parts NAME --seconds S [--rehearse] [--data DIR] [--weights DIR]

Weights are random: neither times nor differences of precision depend on them. Times are wall times; ratios are between
calls that ran in turn.
"""

import argparse
import functools
import importlib.metadata
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import gmm
import neural
from benchmarks import sd15_forward
from benchmarks.edm2_forward import XS
from benchmarks.harness import in_turn
from neural.edm2 import Config, from_tensors, tensor_shapes
from neural.stable_diffusion import layers
from neural.stable_diffusion.architecture import TextConfig, UNetConfig, VAEConfig

Call = Callable[[], object]
Row = dict[str, Any]
DTYPES = ("float32", "bfloat16")
EDM2 = "EDM2"


class Sizes(NamedTuple):
    """What a run computes with: as published, or in miniature."""

    edm2: Config = XS
    unet: UNetConfig = UNetConfig()
    decoder: VAEConfig = VAEConfig()
    text: TextConfig = TextConfig()
    latents: int = 64
    batches: tuple[int, ...] = (1, 8, 64)
    parity_batch: int = 2
    product: int = 8192
    mixture: tuple[int, int, int] = (16384, 4096, 1000)
    attention: tuple[tuple[int, int, int, int], ...] = ((8, 4096, 8, 40), (8, 1024, 8, 80), (64, 256, 6, 64))
    paths: int = 256
    steps: int = 32
    repeats: int = 10


MINIATURE = Sizes(
    edm2=Config(8, 4, 10, (32, 64), 1, (4,), 32, 64),
    unet=UNetConfig(widths=(32, 64), attends=(True, False), layers=1, context=32, heads=2, groups=8),
    decoder=VAEConfig(widths=(16, 32), layers=1, groups=8),
    text=TextConfig(vocabulary=100, width=32, layers=2, heads=2, feed_forward=64),
    latents=8,
    batches=(1, 2),
    product=256,
    mixture=(256, 64, 10),
    attention=((1, 64, 2, 8),),
    paths=8,
    steps=4,
    repeats=2,
)


def result(what: str, value: float, unit: str, **about: Any) -> Row:
    """A row of the table."""
    return {"what": what, **about, "value": float(value), "unit": unit}


def machine(sizes: Sizes) -> Iterator[Row]:
    """What the device is, and the rate of its matrix products."""
    device = jax.devices()[0]
    names = [name for name in ("jax", "jaxlib", "numpy", "torch") if _version(name)]
    releases = ", ".join(f"{name} {_version(name)}" for name in names)
    yield result(f"{device.device_kind} ({device.platform}); {releases}", len(jax.devices()), "devices")
    for dtype in ("float32", "bfloat16", "float16"):
        times = in_turn({"product": product(sizes.product, dtype)}, sizes.repeats)["product"]
        rate = 2 * sizes.product**3 / np.median(times) / 1e12
        yield result(f"product of {sizes.product} x {sizes.product}", rate, "TFLOP/s", dtype=dtype)


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def product(size: int, dtype: str) -> Call:
    """A square matrix product in full precision."""
    a = jax.random.normal(jax.random.key(0), (size, size), jnp.float32).astype(dtype)
    times = jax.jit(functools.partial(jnp.matmul, precision="highest"))
    return lambda: times(a, a)


def networks(sizes: Sizes, dtype: str) -> dict[str, Callable[[int], Call]]:
    """Each network as a function from a batch size to a call without arguments."""

    def edm2(batch: int) -> Call:
        rng = np.random.default_rng(0)
        shapes = tensor_shapes(sizes.edm2).items()
        tensors = {name: rng.standard_normal(shape, np.float32) for name, shape in shapes}
        model = from_tensors(tensors, dtype=dtype)
        x = jnp.asarray(rng.standard_normal((batch, *sizes.edm2.image_shape), np.float32))
        return lambda: model.denoise(x, 1.0, 3)

    def stable_diffusion(batch: int, part: str, config: Any) -> Call:
        return sd15_forward.ours(part, batch, dtype, config, sizes.latents)

    configs = {"unet": sizes.unet, "decoder": sizes.decoder, "text": sizes.text}
    stable = {
        part: functools.partial(stable_diffusion, part=part, config=config)
        for part, config in configs.items()
    }
    return {EDM2: edm2, **stable}


def parity(sizes: Sizes) -> Iterator[Row]:
    """The largest difference of each network's output from the CPU's in float32, relative to the largest value."""
    with jax.default_device(jax.devices("cpu")[0]):
        expected = {
            name: np.asarray(make(sizes.parity_batch)(), np.float32)
            for name, make in networks(sizes, "float32").items()
        }
    for dtype in DTYPES:
        for name, make in networks(sizes, dtype).items():
            output = np.asarray(make(sizes.parity_batch)(), np.float32)
            largest = np.abs(output - expected[name]).max() / np.abs(expected[name]).max()
            yield result(f"{name}, difference from the CPU", largest, "of the largest value", dtype=dtype)


def forward(sizes: Sizes) -> Iterator[Row]:
    """Rate of each network, its memory, and its time beside torch's where that is installed."""
    for batch in sizes.batches:
        for dtype in DTYPES[::-1]:
            for name, make in networks(sizes, dtype).items():
                calls = {"ours": make(batch), **_peers(name, batch, sizes)}
                times = in_turn(calls, sizes.repeats)
                about = {"dtype": dtype, "batch": batch}
                yield result(name, batch / np.median(times["ours"]), "images/s", **about)
                for peer in calls.keys() - {"ours"}:
                    share = np.median(times["ours"] / times[peer])
                    yield result(f"{name}, time over {peer}'s", share, "ratio", **about)
                yield from _memory(name, about)


def _peers(name: str, batch: int, sizes: Sizes) -> dict[str, Call]:
    """diffusers' and transformers' networks under torch.compile; they are built at full size alone."""
    if name == EDM2 or sizes.unet != UNetConfig() or not sd15_forward.has_rivals():
        return {}
    return {
        f"torch {dtype}": sd15_forward.theirs(name, batch, dtype, sizes.latents)
        for dtype in ("float16", "bfloat16")
    }


def _memory(name: str, about: Row) -> Iterator[Row]:
    """Peak memory of the device in this process so far, where the device counts it."""
    counted = jax.devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in counted:
        yield result(f"after {name}, peak memory", counted["peak_bytes_in_use"] / 2**30, "GiB", **about)


def attention(sizes: Sizes) -> Iterator[Row]:
    """JAX's attention, by XLA and by cuDNN, beside ours: (batch, tokens, heads, width)."""
    for shape in sizes.attention:
        keys = jax.random.split(jax.random.key(0), 3)
        q, k, v = (jax.random.normal(key, shape, jnp.bfloat16) for key in keys)
        ours = jax.jit(layers.attend)
        calls: dict[str, Call] = {"ours": lambda ours=ours, given=(q, k, v): ours(*given)}
        for kind in ("xla", "cudnn") if jax.default_backend() == "gpu" else ("xla",):
            theirs = jax.jit(functools.partial(jax.nn.dot_product_attention, implementation=kind))
            calls[kind] = lambda theirs=theirs, given=(q, k, v): theirs(*given)
        times = in_turn(calls, sizes.repeats)
        for kind in calls.keys() - {"ours"}:
            share = np.median(times["ours"] / times[kind])
            yield result(f"attention {shape}, time over {kind}'s", share, "ratio", dtype="bfloat16")


def mixtures(sizes: Sizes) -> Iterator[Row]:
    """Posterior and score in products of the same shapes, and the seconds of an entropy curve."""
    n, dim, classes = sizes.mixture
    keys = jax.random.split(jax.random.key(1))
    x, means = jax.random.normal(keys[0], (n, dim)), jax.random.normal(keys[1], (classes, dim))
    mixture = gmm.Mixture(np.full(classes, 1 / classes, np.float32), means, gmm.Isotropic(np.float32(1)))
    matmul = jax.jit(lambda a, b: jnp.matmul(a, b.T, precision="highest"))
    posterior, score = jax.jit(gmm.log_posterior), jax.jit(gmm.score)
    calls: dict[str, Call] = {
        "product": lambda: matmul(x, means),
        "log_posterior": lambda: posterior(mixture, x),
        "score": lambda: score(mixture, x),
    }
    times = in_turn(calls, sizes.repeats)
    for name in ("log_posterior", "score"):
        yield result(name, np.median(times[name] / times["product"]), "products", dtype="float32")
    process = gmm.vp()
    grid = np.linspace(0.5, 4.0, 8)
    start = time.perf_counter()
    gmm.class_entropy(mixture, process, grid, key=jax.random.key(2), samples=1024)
    yield result("class_entropy, 8 times, 1024 samples", time.perf_counter() - start, "s")


def window(sizes: Sizes) -> Iterator[Row]:
    """Evaluations a second of the tracked posterior, compiling included and not."""
    rng = np.random.default_rng(0)
    shapes = tensor_shapes(sizes.edm2).items()
    tensors = {name: rng.standard_normal(shape, np.float32) for name, shape in shapes}
    for dtype in DTYPES[::-1]:
        model = from_tensors(tensors, dtype=dtype)
        for run in ("first", "second"):
            start = time.perf_counter()
            neural.online_entropy(
                model, [0, 1], key=jax.random.key(0), samples=sizes.paths, steps=sizes.steps
            )
            rate = 2 * sizes.paths * sizes.steps / (time.perf_counter() - start)
            yield result(f"online_entropy, {run} run", rate, "evaluations/s", dtype=dtype)


def training(seconds: float, data: Path | None, weights: Path, rehearse: bool) -> Iterator[Row]:
    """Train the network of zoo:fashion (of digits without its data) for the time that is left, and keep it."""
    name = "digits" if data is None else str(data)
    patch = "2" if data is None else "4"
    steps = "20" if rehearse else "200000"
    words = ["train", "--data", name, "--patch", patch, "--steps", steps, "--out", str(weights)]
    done, took = _command(words, seconds)
    state = weights / "state.safetensors"
    model = weights / "model.safetensors"
    yield result(f"trained on {name} ({done})", took, "s")
    for path in (state, model):
        if path.exists():
            yield result(f"kept {path.name}", path.stat().st_size / 2**20, "MiB")


def _command(words: list[str], seconds: float) -> tuple[str, float]:
    """Run ``speciation`` and end it in time: it keeps its state when told to."""
    start = time.perf_counter()
    program = "import sys; from paper_figures.cli import main; main()"
    with subprocess.Popen(
        [sys.executable, "-c", program, *words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            _, said = process.communicate(timeout=max(seconds - 20, 1))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGTERM)
            process.communicate()
            return "stopped in time", time.perf_counter() - start
    if process.returncode:
        raise SystemExit(said.strip().splitlines()[-1] if said.strip() else "training failed")
    return "to its end", time.perf_counter() - start


def main() -> None:
    """Run one part."""
    parser = argparse.ArgumentParser(description=__doc__)
    parts = {part.__name__: part for part in (machine, parity, forward, attention, mixtures, window)}
    parser.add_argument("name", choices=[*parts, "training"])
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--rehearse", action="store_true")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--weights", type=Path, default=Path("trained"))
    chosen = parser.parse_args()
    if chosen.name == "training":
        rows = training(chosen.seconds, chosen.data, chosen.weights, chosen.rehearse)
    else:
        rows = parts[chosen.name](MINIATURE if chosen.rehearse else Sizes())
    for row in rows:
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
