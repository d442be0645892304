"""How fast are the networks of Stable Diffusion 1.5, beside diffusers' and transformers' own under torch?

    python -m benchmarks sd15_forward [--parts unet decoder text load] [--batch 1] [--dtype float32] [--repeats 5] \
        [--clock wall] [--brief]

Weights are random and the same on both sides; they take 3.4 GB a side. Rivals run in turn within one process,
ratios are within a turn. Torch computes on the CPU in float32, on a GPU in float16 under torch.compile. Where
torch, diffusers and transformers are not installed, ours runs beside the machine's matrix product alone.

- unet: 64x64 latents, one text: 339 G multiply-adds an image.
- decoder: 32x32 latents to 256x256 pixels: 308 G.
- text: 77 tokens: 6.7 G.
- load: `load_sd15` of a float32 folder of 4.3 GB, warm; written to a temporary folder first.

Peak memory is that of a process of its own for each side: weights, and one forward pass after compiling, once as
it is and once after the allocator has given back what loading and compiling left with it (glibc's malloc_trim).
"""

import argparse
import gc
import importlib
import importlib.util
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.harness import CLOCKS, in_turn, ratio, show
from neural.checkpoints import write_safetensors
from neural.stable_diffusion import architecture, text_encoder, unet, vae
from neural.stable_diffusion.weights import convert

Call = Callable[[], object]
PARTS = ("unet", "decoder", "text")
CONFIGS = {
    "unet": architecture.UNetConfig(),
    "decoder": architecture.VAEConfig(),
    "text": architecture.TextConfig(),
}
FOLDERS = {"unet": "unet", "decoder": "vae", "text": "text_encoder"}
STEM = {"unet": "diffusion_pytorch_model", "decoder": "diffusion_pytorch_model", "text": "model"}
LATENTS = {"unet": 64, "decoder": 32}
TIME, TOKENS = 500.0, 77
PRODUCT = 2048
NO_RIVALS = "not installed"


def random_tensors(part: str, config: Any = None) -> dict[str, np.ndarray]:
    """Weights that keep magnitudes, of the full size or another."""
    rng = np.random.default_rng(0)
    return {
        name: rng.standard_normal(shape, np.float32) / np.float32(np.prod(shape[1:]) ** 0.5)
        for name, shape in architecture.tensor_shapes(config or CONFIGS[part]).items()
    }


def inputs(part: str, batch: int, config: Any = None, side: int | None = None) -> tuple[np.ndarray, ...]:
    """What a network is given, NHWC; latents with `side` rows and columns."""
    rng = np.random.default_rng(1)
    config, side = config or CONFIGS[part], side or LATENTS.get(part, 0)
    if part == "text":
        return (rng.integers(0, config.vocabulary - 1, (batch, TOKENS)),)
    latents = rng.standard_normal((batch, side, side, 4), np.float32)
    if part == "decoder":
        return (latents,)
    return latents, rng.standard_normal((batch, TOKENS, config.context), np.float32)


def ours(part: str, batch: int, dtype: str, config: Any = None, side: int | None = None) -> Call:
    """Our network as a call without arguments, of the full size or another."""
    kind = np.dtype(jnp.dtype(dtype))
    config = config or CONFIGS[part]
    weights = convert(random_tensors(part, config), kind)
    given = tuple(jnp.asarray(x) for x in inputs(part, batch, config, side))
    if part == "unet":
        keys = jax.jit(lambda w, s: unet.text_keys(w, config, s.astype(kind)))(weights, given[1])
        t = jnp.full(batch, TIME, jnp.float32)
        run = jax.jit(lambda w, x, t, keys: unet.unet(w, config, x.astype(kind), t, keys))
        return lambda: run(weights, given[0], t, keys)
    if part == "decoder":
        run = jax.jit(lambda w, x: vae.decode(w, config, x.astype(kind)))
    else:
        run = jax.jit(lambda w, x: text_encoder.text_encoder(w, config, x, kind))
    return lambda: run(weights, given[0])


def theirs(part: str, batch: int, dtype: str = "float16", side: int | None = None) -> Call:
    """The original network as a call without arguments; `dtype` counts on a GPU alone."""
    oracles: Any = importlib.import_module("tests.neural.stable_diffusion.oracles")
    torch, golden = oracles.torch, importlib.import_module("tests.neural.stable_diffusion.make_golden")
    tiny = importlib.import_module("tests.neural.stable_diffusion.tiny")
    makers = {
        "unet": lambda: oracles.diffusers.UNet2DConditionModel(
            sample_size=64, cross_attention_dim=CONFIGS["unet"].context, attention_head_dim=8
        ),
        "decoder": lambda: oracles.diffusers.AutoencoderKL(**golden.FULL_VAE),
        "text": lambda: oracles.transformers.CLIPTextModel(
            oracles.transformers.CLIPTextConfig(**tiny.FULL_TEXT)
        ),
    }
    # The text encoder has buffers that are in no state_dict.
    with torch.device("cpu" if part == "text" else "meta"):
        module = makers[part]()
    state = {name: torch.from_numpy(value) for name, value in random_tensors(part).items()}
    renamed = {name: state[golden.prefixed(name) if part == "text" else name] for name in module.state_dict()}
    module.load_state_dict(renamed, assign=True)
    return _torch_call(torch, part, module.eval(), inputs(part, batch, side=side), dtype)


def _torch_call(torch: Any, part: str, module: Any, given: tuple[np.ndarray, ...], dtype: str) -> Call:
    gpu = torch.cuda.is_available()
    half = getattr(torch, dtype)
    if gpu:
        module = module.to("cuda", half)
    # No images: token numbers stay as they are.
    arrays = [np.moveaxis(x, -1, 1).copy() if x.ndim == 4 else x for x in given]
    tensors = [torch.from_numpy(x) for x in arrays]
    if gpu:
        tensors = [x.to("cuda", half) if x.is_floating_point() else x.to("cuda") for x in tensors]
    forward = {
        "unet": lambda: module(tensors[0], TIME, tensors[1]).sample,
        "decoder": lambda: module.decode(tensors[0]).sample,
        "text": lambda: module(tensors[0]).last_hidden_state,
    }[part]
    if gpu:
        forward = torch.compile(forward)

    def call() -> Any:
        with torch.inference_mode():
            output = forward()
        if gpu:
            torch.cuda.synchronize()
        return output

    return call


def difference(ours: Any, theirs: Any) -> float:
    """Largest, relative to the largest value: rivals that do not compute the same are none."""
    expected = theirs.float().cpu().numpy()
    expected = np.moveaxis(expected, 1, -1) if expected.ndim == 4 else expected
    return float(np.abs(np.asarray(ours, np.float32) - expected).max() / np.abs(expected).max())


def has_rivals() -> bool:
    """Whether torch and its networks are installed."""
    return all(importlib.util.find_spec(name) for name in ("torch", "diffusers", "transformers"))


def matrix_product(dtype: str) -> Call:
    """A square product, the machine's own rate."""
    a = jax.random.normal(jax.random.key(0), (PRODUCT, PRODUCT), jnp.float32).astype(dtype)
    product = jax.jit(jnp.matmul)
    return lambda: product(a, a)


def run(
    parts: Sequence[str] = (*PARTS, "load"),
    batch: int = 1,
    dtype: str = "float32",
    repeats: int = 5,
    clock: str = "wall",
    brief: bool = False,
) -> None:
    """Print the tables."""
    for part in PARTS:
        if part not in parts:
            continue
        rows = [_row(part, batch, dtype, repeats, clock, brief)]
        show(
            f"Stable Diffusion 1.5, batch {batch}, {dtype}, {jax.default_backend()}, {clock} time; ratios in a turn, "
            "median (quartiles)",
            (
                "network",
                "seconds",
                "in products",
                "ours / torch",
                "peak GiB, trimmed",
                "ours / torch, trimmed",
            ),
            rows,
        )
    if "load" in parts:
        show("Loading", ("what", "seconds", "of the processor", "peak / weights"), [load(repeats)])


def _row(part: str, batch: int, dtype: str, repeats: int, clock: str, brief: bool) -> tuple[str, ...]:
    calls = {"product": matrix_product(dtype), "ours": ours(part, batch, dtype)}
    if has_rivals():
        calls["theirs"] = theirs(part, batch)
        print(f"{part}: largest difference {difference(calls['ours'](), calls['theirs']()):.1e}", flush=True)
    times = in_turn(calls, repeats, CLOCKS[clock])
    calls.clear()
    gc.collect()  # the processes that follow need the memory
    against = ratio(times["ours"], times["theirs"]) if has_rivals() else NO_RIVALS
    cells = (
        part,
        f"{np.median(times['ours']):.2f}",
        f"{np.median(times['ours'] / times['product']):.1f}",
        against,
    )
    if brief:
        return (*cells, "-", "-")
    peaks = peaks_of("ours", part, batch, dtype)
    ratios = _pair(peaks / peaks_of("theirs", part, batch, dtype)) if has_rivals() else NO_RIVALS
    return (*cells, _pair(peaks / 2**30), ratios)


def _pair(values: np.ndarray) -> str:
    return ", ".join(f"{value:.2f}" for value in values)


PEAK = """
import ctypes, gc, sys
from pathlib import Path
import jax
from benchmarks import sd15_forward
from benchmarks.harness import peak_memory, seconds
side, part, batch, dtype = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
seconds(lambda: jax.numpy.ones(1))
idle = peak_memory()
call = sd15_forward.ours(part, batch, dtype) if side == "ours" else sd15_forward.theirs(part, batch)
seconds(call)
gc.collect()
for give_back in (lambda: None, lambda: ctypes.CDLL("libc.so.6").malloc_trim(0)):
    give_back()
    Path("/proc/self/clear_refs").write_text("5")  # reset the peak of loading and compiling
    seconds(call)
    print(peak_memory() - idle)
"""


def peaks_of(side: str, part: str, batch: int, dtype: str) -> np.ndarray:
    """Peak resident bytes (2,) of a forward pass with its weights, above an idle process with jax.

    The second after the allocator has given back what it held without use.
    """
    command = [sys.executable, "-c", PEAK, side, part, str(batch), dtype]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return np.array([int(line) for line in done.stdout.split()[-2:]])


LOAD = """
import sys, time
import jax
from benchmarks.harness import peak_memory
from neural.stable_diffusion import load_sd15
jax.block_until_ready(jax.numpy.ones(1))
idle, start, worked = peak_memory(), time.perf_counter(), time.process_time()
model = load_sd15(sys.argv[1])
jax.block_until_ready(jax.tree.leaves(model))
weights = sum(leaf.nbytes for leaf in jax.tree.leaves(model))
print(time.perf_counter() - start, time.process_time() - worked, (peak_memory() - idle) / weights)
"""


def load(repeats: int) -> tuple[str, ...]:
    """Load a float32 folder in processes of their own, once before to warm the file."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in PARTS:
            target = folder / FOLDERS[part]
            target.mkdir()
            write_safetensors(target / f"{STEM[part]}.safetensors", random_tensors(part), {})
            (target / "config.json").write_text(json.dumps({}))
        runs = []
        for _ in range(repeats + 1):
            command = [sys.executable, "-c", LOAD, name]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            runs.append([float(word) for word in done.stdout.split()])
    return "float32 folder, 4.3 GB, warm", *(f"{value:.2f}" for value in np.median(runs[1:], axis=0))


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", nargs="+", default=[*PARTS, "load"], choices=(*PARTS, "load"))
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--clock", default="wall", choices=tuple(CLOCKS), help="cpu: with taskset -c 0")
    parser.add_argument("--brief", action="store_true", help="no peak memory")
    chosen = parser.parse_args(arguments)
    run(chosen.parts, chosen.batch, chosen.dtype, chosen.repeats, chosen.clock, chosen.brief)


if __name__ == "__main__":
    main()
