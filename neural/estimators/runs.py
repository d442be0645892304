"""Runs many trajectories in chunks, over devices, keeps finished chunks on disk, and reduces them to moments.

The noise of trajectory i depends on the key and on i alone. The size of the chunks therefore changes the memory
needed and nothing else: the numbers are the same up to rounding, on any number of devices.
"""

import dataclasses
import functools
import itertools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Float, PRNGKeyArray
from scipy.interpolate import CubicSpline

from gmm.devices import of_every_host, sharing
from gmm.fingerprint import tree_fingerprint
from neural.checkpoints import read_kept, write_kept
from neural.denoiser import from_pytree
from neural.estimators.chain import Chain, Kept, PartitionArrays, Paths
from neural.estimators.held import COLUMNS as HELD
from neural.estimators.held import DRAWS, held_statistics
from neural.estimators.trackers import COLUMNS, averaged, log_drawn, may_average
from neural.estimators.tracking import draw_classes, draw_noise, trajectories
from neural.progress import Progress

Source = Callable[
    [np.ndarray, np.ndarray], Any
]  # numbers (n,) and classes (n,) of trajectories -> x_0 (n, d)

# Default limit on the numbers in the largest array of a chunk: 64 states of 64 x 64 x 4, 4 MiB in float32. The
# network's own memory is usually a few hundred times as much.
STATE_NUMBERS = 2**20
NAMES = (*COLUMNS, "integral", "taken")
HELD_NAMES = (*HELD, "rate")
RECORD_NUMBERS = 2**22  # limit on the statistics of a chunk before they are averaged
KEEP_NOTHING = Kept(None, None)


@dataclasses.dataclass(frozen=True)
class PathMoments:
    """Mean (T, F) and summed squared deviations (T, F) of `count` trajectories."""

    count: int
    mean: np.ndarray
    squares: np.ndarray

    @property
    def stderr(self) -> np.ndarray:
        """(T, F) standard error of the mean, as the spread of these trajectories gives it; see `known`."""
        return np.sqrt(self.squares / (self.count - 1) / self.count)

    @property
    def norm(self) -> np.ndarray:
        """(T, F) root of the sum of squares."""
        return np.sqrt(self.squares + self.count * self.mean**2)

    def merged(self, other: "PathMoments") -> "PathMoments":
        """Moments of both groups of trajectories together (Chan, Golub, LeVeque 1983)."""
        count = self.count + other.count
        gap = other.mean - self.mean
        mean = self.mean + gap * (other.count / count)
        squares = self.squares + other.squares + gap**2 * (self.count * other.count / count)
        return PathMoments(count, mean, squares)


@dataclasses.dataclass(frozen=True)
class Run:
    """All trajectories of an estimate.

    Attributes:
        moments: for each partition the moments of `NAMES`, of the cells and, on data, of the integrals of the cells
            and of what they take from the surprise.
        z: (N,) class of each trajectory.
        kept: log-weights (T, N, J) and states (T, N, d), where the caller asked to keep them.
    """

    moments: tuple[PathMoments, ...]
    z: np.ndarray
    kept: Kept


def run(
    chain: Chain,
    key: PRNGKeyArray,
    samples: int,
    *,
    source: Source | None = None,
    first: Float[Array, "N d"] | None = None,
    batch: int | None = None,
    folder: str | os.PathLike[str] | None = None,
    facts: str = "",
    progress: Progress | None = None,
    keep: Kept = KEEP_NOTHING,
    begin: int = 0,
) -> Run:
    """The moments of trajectories begin..samples-1; several processes that have joined each compute a part of them.

    Args:
        chain: what to compute.
        key: random key.
        samples: number of trajectories, those before `begin` included.
        source: where x_0 comes from, for chains that data drive.
        first: (samples, d) first states.
        batch: number of states in one call of the network.
        folder: where finished chunks are kept; a later run with the same arguments reads them.
        facts: text that identifies the data; chain and key are compared anyway.
        progress: called with (trajectories done, total).
        keep: which of log-weights and states to return path by path.
        begin: number of the first trajectory; `joined` puts runs together.

    Raises:
        ValueError: when the denoiser returns something that is not finite, or the folder cannot be written.
    """
    blocks = _blocks(begin, samples)
    mine = blocks[min(jax.process_index(), len(blocks) - 1)]
    size = chunk_size(chain, max(stop - start for start, stop in blocks), batch)
    rows = STATE_NUMBERS // int(np.prod(chain.shape)) if batch is None else batch
    chain = dataclasses.replace(chain, at_once=max(1, rows // size))
    store = None if folder is None else _Store(Path(folder), _fingerprint(chain, key, facts), keep)
    parts = []
    for start in range(*mine, size):
        if progress is not None:
            progress(begin + (start - mine[0]) * len(blocks), samples)
        stop = min(start + size, mine[1])
        part = None if store is None else store.load(start, stop)
        if part is None:
            part = _compute(chain, key, np.arange(start, start + size), stop - start, source, first, keep)
            if store is not None:
                store.save(start, stop, part)
        parts.append(part)
    if progress is not None:
        progress(samples, samples)
    return joined(parts) if len(blocks) == 1 else joined(_of_every_host(joined(parts), blocks))


def _blocks(begin: int, samples: int) -> list[tuple[int, int]]:
    """First trajectory and end of each process's part; fewer parts than processes where trajectories are fewer."""
    hosts = min(sharing(), samples - begin)
    edges = [begin + (samples - begin) * host // hosts for host in range(hosts + 1)]
    return list(itertools.pairwise(edges))


def _of_every_host(own: Run, blocks: Sequence[tuple[int, int]]) -> list[Run]:
    """The runs of all processes, in the order of their trajectories."""
    counts = [stop - start for start, stop in blocks]

    def padded(values: np.ndarray, axis: int) -> np.ndarray:
        pads = [(0, 0)] * values.ndim
        pads[axis] = (0, max(counts) - values.shape[axis])
        return np.pad(values, pads)

    tree = (
        [(moments.mean, moments.squares) for moments in own.moments],
        padded(own.z, 0),
        jax.tree.map(lambda leaf: padded(leaf, 1), own.kept),
    )
    moments, z, kept = of_every_host(tree)

    def of_host(host: int, count: int) -> Run:
        found = tuple(PathMoments(count, mean[host], squares[host]) for mean, squares in moments)
        states = jax.tree.map(lambda leaf, old: leaf[host, :, :count].astype(old.dtype), kept, own.kept)
        return Run(found, z[host, :count].astype(own.z.dtype), states)

    return [of_host(host, count) for host, count in enumerate(counts)]


def chunk_size(chain: Chain, samples: int, batch: int | None) -> int:
    """Number of trajectories in a chunk: what memory and `batch` allow, a multiple of the number of devices."""
    dim, predictions = int(np.prod(chain.shape)), chain.classes + (chain.reference is not None)
    width = len(NAMES) + sum(3 * partition.cells for partition in chain.partitions)
    size = STATE_NUMBERS // (dim * predictions)
    if batch is not None:  # `denoise_classes` takes all classes of a state in one call
        size = batch // chain.classes if hasattr(from_pytree(chain.denoiser), "denoise_classes") else batch
    size = max(1, min(size, samples, RECORD_NUMBERS // (width * len(chain.rows.t))))
    if chain.points is not None:  # of each path all draws at one point, and its sums at all of them
        size = max(1, min(size, RECORD_NUMBERS // max(4 * DRAWS * chain.classes, width * len(chain.points))))
    devices = len(jax.local_devices())
    return -(-size // devices) * devices


def _compute(
    chain: Chain, key: PRNGKeyArray, index: np.ndarray, count: int, source: Any, first: Any, keep: Kept
) -> Run:
    # Paths that are returned one by one carry no weights: their classes are those of the prior.
    weighted = may_average(chain) and source is None and not keep.log_w
    log_class = log_drawn(chain.log_prior) if weighted else chain.log_prior
    z = np.asarray(draw_classes(key, jnp.asarray(index), log_class))
    x0 = None if source is None else source(index, z)
    if first is None:
        start = draw_noise(key, jnp.asarray(index), dim=int(np.prod(chain.shape)), dtype=chain.dtype)
    else:
        start = jnp.asarray(first)[np.minimum(index, len(first) - 1)]
    paths = _placed(Paths(key, index, np.arange(len(index)) < count, z, start, x0), chain)
    if chain.points is None:
        moments, finite, kept = _chunk(chain, paths, _antiderivative(chain), keep)
    else:
        moments, finite = _held_chunk(chain, paths, _slopes(chain))
        kept = KEEP_NOTHING
    _check_finite(chain, np.asarray(finite))
    host = tuple(
        PathMoments(count, np.asarray(mean, np.float64), np.asarray(norm, np.float64) ** 2)
        for mean, norm in moments
    )
    return Run(host, z[:count], jax.tree.map(lambda leaf: np.asarray(leaf)[:, :count], kept))


def _placed(paths: Paths, chain: Chain) -> Paths:
    """The chunk's trajectories, placed on this host's devices in equal parts."""
    devices = jax.local_devices()
    key, *arrays = paths
    if len(devices) == 1 or not getattr(from_pytree(chain.denoiser), "traceable", True):
        return paths
    rows = NamedSharding(Mesh(np.array(devices), ("paths",)), PartitionSpec("paths"))
    return Paths(key, *jax.device_put(arrays, rows))


@functools.partial(jax.jit, static_argnames=("keep",))
def _chunk(chain: Chain, paths: Paths, antiderivative: Float[Array, "T T"], keep: Kept) -> tuple[Any, ...]:
    record = trajectories(chain, paths, keep)[1]
    skipped = len(chain.rows.t) - antiderivative.shape[0]
    moments = tuple(
        _moments(_with_integrals(columns[skipped:], antiderivative, chain, paths, partition), paths.real)
        for columns, partition in zip(record.columns, chain.partitions, strict=True)
    )
    return moments, record.finite, jax.tree.map(lambda leaf: leaf[skipped:], record.kept)


@jax.jit
def _held_chunk(chain: Chain, paths: Paths, slopes: Float[Array, "S S"]) -> tuple[Any, ...]:
    statistics, finite = held_statistics(chain, paths)
    moments = tuple(_moments(_with_rate(values, slopes), paths.real) for values in statistics)
    return moments, finite


def _with_rate(values: Float[Array, "S n F"], slopes: Float[Array, "S S"]) -> Float[Array, "S n G"]:
    """The statistics at the points, with the entropy's own rate per unit of -log γ before those of the cells."""
    rate = -jnp.einsum("st,tn->sn", slopes.astype(values.dtype), values[:, :, 0])
    scalars, by_cell = jnp.split(values, [len(HELD)], axis=2)
    return jnp.concatenate([scalars, rate[:, :, None], by_cell], axis=2)


def _slopes(chain: Chain) -> Float[np.ndarray, "S S"]:
    """The matrix that maps values at the points to the slopes, in log γ, of the cubic spline through them."""
    x = np.log(chain.points)
    return CubicSpline(x, np.eye(len(x)))(x, 1)


def _with_integrals(
    columns: Float[Array, "T n F"],
    antiderivative: Float[Array, "T T"],
    chain: Chain,
    paths: Paths,
    partition: PartitionArrays,
) -> Float[Array, "T n G"]:
    """The statistics with the integrals beside them: the value at the first time minus the integral of the rate."""
    named = {name: columns[:, :, i] for i, name in enumerate(COLUMNS)}
    rate = named["rate" if averaged(chain, paths) else "class_rate"]
    taken = antiderivative.astype(columns.dtype) @ rate
    scalars, by_cell = jnp.split(columns, [len(COLUMNS)], axis=2)
    parts = [scalars, (named["entropy"][:1] - taken)[:, :, None], taken[:, :, None], by_cell]
    if paths.x0 is not None:
        inside = jnp.asarray(partition.labels)[paths.z][:, None] == jnp.arange(partition.cells)[None, :]
        parts += [
            jnp.where(inside[None], part[:, :, None], 0) for part in (named["surprise"][:1] - taken, taken)
        ]
    return jnp.concatenate(parts, axis=2)


def _moments(values: Float[Array, "T n F"], real: Bool[Array, " n"]) -> tuple[Array, Array]:
    """Means, and roots of the summed squared deviations: squares of 1e-25 would underflow in float32."""
    weight = real.astype(values.dtype)[None, :, None]
    mean = jnp.sum(weight * values, axis=1) / jnp.sum(weight)
    deviations = weight * (values - mean[:, None, :])
    scale = jnp.max(jnp.abs(deviations), axis=1)
    unit = deviations / jnp.where(scale > 0, scale, 1)[:, None, :]
    return mean, scale * jnp.sqrt(jnp.sum(unit**2, axis=1))


def _antiderivative(chain: Chain) -> Float[np.ndarray, "T T"]:
    rows = chain.rows
    return antiderivative(-2 * np.log(rows.level[rows.setup == 0]))


def antiderivative(x: Float[np.ndarray, " T"]) -> Float[np.ndarray, "T T"]:
    """The matrix that maps values at x to the integrals, from x[0] to each x, of the cubic spline through them.

    Its error is of fourth order. The map is linear, so that each path has its own integral.
    """
    if len(x) < 2:
        return np.zeros((1, 1))
    return CubicSpline(x, np.eye(len(x))).antiderivative()(x)


def _check_finite(chain: Chain, finite: np.ndarray) -> None:
    if finite.all():
        return
    rows, bad = chain.rows, int(np.argmin(finite))
    skipped = int(rows.setup.sum())
    raise ValueError(
        f"the denoiser returned values that are not finite at step {max(bad - skipped, 0) + 1} of "
        f"{len(rows.t) - skipped} (t = {rows.t[bad]:.6g}, σ/α = {rows.level[bad]:.6g}); "
        "use a dtype with a wider range (bfloat16 instead of float16, or float32), or a smaller largest noise level"
    )


def joined(parts: Sequence[Run]) -> Run:
    """The run of all trajectories of several runs, in their order."""
    moments = zip(*(part.moments for part in parts), strict=True)
    merged = tuple(functools.reduce(PathMoments.merged, of_partition) for of_partition in moments)
    z = np.concatenate([part.z for part in parts])
    kept = jax.tree.map(lambda *leaves: np.concatenate(leaves, axis=1), *(part.kept for part in parts))
    return Run(merged, z, kept)


# ------------------------------------------------------------------------------------------------- on disk


class _Store:
    """Finished chunks in a folder, one file each; the name is a hash of all that determines the numbers."""

    def __init__(self, folder: Path, fingerprint: str, keep: Kept) -> None:
        names = [name for name, wanted in keep._asdict().items() if wanted]
        self.folder, self.stem, self.names = folder, "-".join([fingerprint, *names]), names

    def _path(self, start: int, stop: int) -> Path:
        return self.folder / f"{self.stem}-{start}-{stop}.part"

    def save(self, start: int, stop: int, part: Run) -> None:
        arrays: dict[str, Any] = {"z": part.z}
        for number, moments in enumerate(part.moments):
            arrays |= {f"mean_{number}": moments.mean, f"squares_{number}": moments.squares}
        arrays |= {name: getattr(part.kept, name) for name in self.names}
        write_kept(self._path(start, stop), arrays, {})

    def load(self, start: int, stop: int) -> Run | None:
        """A finished chunk, or None where there is none that is whole."""
        checkpoint = read_kept(self._path(start, stop))
        if checkpoint is None:
            return None
        stored = {name: np.array(values) for name, values in checkpoint.tensors.items()}
        count = sum(name.startswith("mean_") for name in stored)
        moments = tuple(
            PathMoments(stop - start, stored[f"mean_{i}"], stored[f"squares_{i}"]) for i in range(count)
        )
        return Run(moments, stored["z"], Kept(*(stored.get(name) for name in Kept._fields)))


def _fingerprint(chain: Chain, key: PRNGKeyArray, facts: str) -> str:
    """A hash of all that determines the numbers: weights, the configuration of the network, conditions, table, key.

    Of a denoiser that is not a pytree only the type is hashed: the caller uses one folder for each such model.
    """
    words = (
        facts, type(from_pytree(chain.denoiser)).__qualname__, type(chain.guidance).__qualname__,
        NAMES, chain.drive, chain.tracker, chain.shape, [p.cells for p in chain.partitions],
        chain.exhaustive, chain.same_condition, chain.given, str(chain.dtype),
        repr(getattr(from_pytree(chain.denoiser), "config", None)),
    )  # fmt: skip
    return tree_fingerprint(words, dataclasses.replace(chain, at_once=0), key)[:20]
