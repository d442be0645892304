"""What do the estimators cost beside the network, and what does an error cost by each of them?

Overhead: network evaluations per second of `online_entropy` against the bare forward pass of the same states, a loop
over the same steps in one program that does nothing else, run in turn. The network is an EDM2 network of random weights
on 32 x 32 x 4, small enough for a laptop; what the estimators add does not grow with the network, so that a larger one
has less overhead.

Error against cost: a simplex of eight classes whose curve is known, both estimators at the same number of
evaluations; root mean square over the curve and over independent runs.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import gmm
import theory
from benchmarks.harness import in_turn, ratio, show
from neural import gap_entropy, mixture_denoiser, online_entropy
from neural.edm2 import EDM2, Config, from_tensors, tensor_shapes
from neural.samplers import edm_times

SMALL = Config(32, 4, 10, (64, 128), 2, (16,), 64, 128)
STEPS, STATES, CLASSES = 8, 16, (2, 4)
RUNS, MIXTURE_CLASSES, ENERGY = 8, 8, 64.0
SIZES = ((32, 256), (128, 256), (32, 2048), (128, 2048))


def run() -> None:
    """Print both tables."""
    rows = [_overhead(classes) for classes in CLASSES]
    columns = ("classes", "evaluations/s, bare", "estimator / bare, time")
    show(f"online_entropy on {STATES} states, {STEPS} steps, {jax.default_backend()}", columns, rows)
    rows = [_errors(steps, samples) for steps, samples in SIZES]
    columns = ("steps", "trajectories", "evaluations", "online, nat", "its bias", "gap, nat", "its bias")
    show(f"simplex of {MIXTURE_CLASSES} classes, ‖mean‖² = {ENERGY:g}; root mean square error", columns, rows)


def _network() -> EDM2:
    rng = np.random.default_rng(0)
    return from_tensors(
        {name: rng.standard_normal(shape, np.float32) for name, shape in tensor_shapes(SMALL).items()}
    )


def _overhead(classes: int) -> tuple[str, ...]:
    network, chosen = _network(), jnp.arange(classes)
    x = jax.random.normal(jax.random.key(0), (STATES, *network.state_shape), jnp.float32)

    @jax.jit
    def bare(network: EDM2, x: jax.Array, times: jax.Array) -> jax.Array:
        # Each step's input depends on the last output, as in any sampler.
        step = lambda x, t: (x + 1e-6 * network.denoise_classes(x, t, chosen).mean(axis=1), None)
        return jax.lax.scan(step, x, times)[0]

    times = jnp.asarray(edm_times(network.process, STEPS), jnp.float32)
    arguments: dict[str, Any] = {
        "key": jax.random.key(1),
        "samples": STATES,
        "steps": STEPS,
        "start": "prior",
        "batch": STATES * classes,
    }
    calls = {
        "bare": lambda: bare(network, x, times),
        "estimator": lambda: online_entropy(network, range(classes), **arguments).entropy,
    }
    seconds = in_turn(calls, repeats=5)
    rate = STATES * STEPS * classes / np.median(seconds["bare"])
    return str(classes), f"{rate:.0f}", ratio(seconds["estimator"], seconds["bare"])


def _errors(steps: int, samples: int) -> tuple[str, ...]:
    process = gmm.edm()
    mixture = gmm.reduce(gmm.families.simplex(MIXTURE_CLASSES, int(ENERGY)))
    denoiser, cells = mixture_denoiser(mixture, process), []
    for estimator in (online_entropy, gap_entropy):
        errors = []
        for seed in range(RUNS):
            data: dict[str, Any] = {}
            if estimator is gap_entropy:
                data = {"data": gmm.sample(mixture, jax.random.key(1000 + seed), 2 * samples)}
            curve = estimator(
                denoiser,
                range(MIXTURE_CLASSES),
                key=jax.random.key(seed),
                samples=samples,
                steps=steps,
                **data,
            )
            exact = theory.entropy_curve(process, curve.t, ENERGY, classes=MIXTURE_CLASSES)
            errors.append(curve.entropy - exact.entropy)
        cells += [
            f"{np.sqrt(np.mean(np.square(errors))):.4f}",
            f"{np.abs(np.mean(errors, axis=0)).max():.4f}",
        ]
    return str(steps), str(samples), f"{steps * samples * MIXTURE_CLASSES:.1e}", *cells
