"""How many network evaluations does the answer need: half entropy and both window ends within 0.05 in log(σ/α)?

Methods: `published`, the set-up of arXiv 2602.09651 (3,000 paths of 64 steps, one class against the unconditional
network, hence two evaluations a step; only for two classes, because for more it is another question); `before`, the
posterior averaged along paths of 64 steps that are spread over all noise, with as many paths as the error needs;
`now`, `precise_entropy`. Evaluations are counted as they happen, states times conditions.

The error is the root mean square over seeds and the three landmarks against the exact curve, or for zoo:digits against
a long run: with `--full` one of `before` with four times the steps, else one of `now` with eight times the steps.
Coverage is the share of stated 95% intervals that hold the truth. The plain run has fewer seeds, fewest for many
classes, and leaves out `published` on digits.
"""

import argparse
import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

import gmm
import theory
from benchmarks.harness import show
from gmm.curve import EntropyCurve
from gmm.landmarks import half_entropy
from gmm.windows import window
from neural.denoiser import Denoiser, mixture_denoiser
from neural.estimators import PAPER, online_entropy, precise_entropy
from neural.models import load_model

TARGET, SEEDS = 0.05, 20
PLAIN_SEEDS = {"pair": 6, "simplex8": 6, "simplex100": 3, "simplex1000": 1, "tree": 4, "rare": 6, "digits": 4}
# Paths of `before`, tried in this order until the error is small enough.
PATHS = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
BEFORE_STEPS = 64
CLASSES_OF_DIGITS, LONG_RUN, PLAIN_LONG_RUN, LONG_STEPS = (3, 8), 2048, 256, 80
# A stated 95% interval in standard errors.
INTERVAL = 1.96


class Counting:
    """A denoiser that counts evaluations, states times conditions, as they happen."""

    def __init__(self, inner: Denoiser) -> None:
        self.inner, self.count = inner, 0
        self.process, self.conditions = inner.process, inner.conditions
        self.state_shape, self.dtype = inner.state_shape, inner.dtype  # type: ignore[attr-defined]

    @property
    def unconditional(self) -> "Counting | None":
        """This denoiser itself, where the inner one has a law without a condition."""
        return self if getattr(self.inner, "unconditional", None) is not None else None

    def denoise(self, x: Any, t: Any, condition: Any = None) -> Any:
        """The inner denoiser's result; adds the number of states."""
        jax.debug.callback(self._add, len(x))
        inner = self.inner if condition is not None else self.inner.unconditional  # type: ignore[attr-defined]
        return inner.denoise(x, t, condition)

    def denoise_classes(self, x: Any, t: Any, conditions: Any) -> Any:
        """The inner denoiser's results; adds the number of states times that of conditions."""
        jax.debug.callback(self._add, len(x) * len(conditions))
        return self.inner.denoise_classes(x, t, conditions)  # type: ignore[attr-defined]

    def _add(self, number: Any) -> None:
        self.count += int(number)


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """A denoiser, the classes and prior of its decision, and the true landmarks (3,)."""

    denoiser: Counting
    conditions: Sequence[int]
    prior: np.ndarray | None
    times: np.ndarray | None
    truth: np.ndarray
    published: bool = True


def run() -> None:
    """Print the table of all cases, with few seeds."""
    main([])


def main(arguments: list[str]) -> None:
    """Print the table, and write it where `--out` names a file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks evaluations_to_answer", description=__doc__)
    parser.add_argument("--full", action="store_true", help=f"{SEEDS} seeds of every case")
    parser.add_argument("--cases", nargs="+", choices=list(CASES), help="only these cases")
    parser.add_argument("--seeds", type=int, help="independent repetitions")
    parser.add_argument("--out", type=Path, help="file for the rows, JSON")
    chosen = parser.parse_args(arguments)
    rows: list[dict[str, Any]] = []
    for name in chosen.cases or CASES:
        seeds = chosen.seeds or (SEEDS if chosen.full else PLAIN_SEEDS[name])
        case = CASES[name](chosen.full)
        for method, measured in METHODS.items():
            row = measured(case, seeds)
            if row is not None:
                rows.append({"case": name, "method": method, **row})
                print(rows[-1], flush=True)
            if chosen.out is not None:
                chosen.out.write_text(json.dumps(rows, indent=1) + "\n")
    columns = ("case", "seeds", "method", "evaluations", "error", "coverage")
    shown = [
        (
            r["case"], str(r["seeds"]), r["method"],
            f"{r['evaluations']:,.0f}", f"{r['error']:.3f}", f"{r['coverage']:.2f}",
        )
        for r in rows
    ]  # fmt: skip
    show(f"evaluations until half entropy and window ends are within {TARGET}", columns, shown)


# ------------------------------------------------------------------------------------------------ methods


def _marks(curve: EntropyCurve) -> tuple[np.ndarray, np.ndarray]:
    """log(σ/α) of half entropy and of the window's ends, and their stated standard errors."""
    half, interval = half_entropy(curve), window(curve, allow_partial=True)
    places = np.array([half.value, interval.low, interval.high], float)
    return places, np.array([half.stderr, interval.low_stderr, interval.high_stderr], float)


def _judged(case: Case, seeds: int, curve_of: Callable[[Any], EntropyCurve]) -> dict[str, float]:
    """Evaluations for one curve, its error, and the coverage of the stated intervals, over seeds."""
    case.denoiser.count = 0
    pairs = [_marks(curve_of(jax.random.key(1000 + seed))) for seed in range(seeds)]
    jax.effects_barrier()
    places, errors = map(np.array, zip(*pairs, strict=True))
    off = places - case.truth
    # A landmark that was not found is off by more than any window is wide, and an unknown error claims nothing.
    off, errors = np.nan_to_num(off, nan=10.0), np.nan_to_num(errors, nan=np.inf)
    return {
        "seeds": seeds,
        "evaluations": case.denoiser.count / seeds,
        "error": float(np.sqrt(np.mean(off**2))),
        "coverage": float(np.mean(np.abs(off) <= INTERVAL * errors)),
    }


def _before_curve(case: Case, key: Any, samples: int) -> EntropyCurve:
    return online_entropy(
        case.denoiser,
        case.conditions,
        prior=case.prior,
        key=key,
        samples=samples,
        steps=BEFORE_STEPS,
        times=case.times,
    )


def _before(case: Case, seeds: int) -> dict[str, float] | None:
    row: dict[str, float] | None = None
    for samples in PATHS:
        row = _judged(case, seeds, lambda key, samples=samples: _before_curve(case, key, samples))
        if row["error"] <= TARGET:
            break
    return row


def _published(case: Case, seeds: int) -> dict[str, float] | None:
    if len(case.conditions) != 2 or case.denoiser.unconditional is None or not case.published:
        return None
    arguments = PAPER["edm2"].arguments(case.denoiser)
    if case.times is not None:
        arguments["times"] = case.times
    first = case.conditions[:1]
    curve = lambda key: online_entropy(case.denoiser, first, key=key, **arguments)
    return _judged(case, 1 if seeds < SEEDS else 2, curve)


def _now(case: Case, seeds: int) -> dict[str, float]:
    return _judged(
        case,
        seeds,
        lambda key: precise_entropy(
            case.denoiser, case.conditions, prior=case.prior, key=key, times=case.times, precision=TARGET
        ),
    )


METHODS: dict[str, Callable[[Case, int], dict[str, float] | None]] = {
    "published": _published,
    "before": _before,
    "now": _now,
}


# -------------------------------------------------------------------------------------------------- cases


def _exact(mixture: gmm.Mixture, truth: EntropyCurve | None = None, prior: np.ndarray | None = None) -> Case:
    process = gmm.edm()
    small = jax.tree.map(lambda leaf: leaf.astype("float32"), mixture)
    denoiser = Counting(mixture_denoiser(small, process))
    if truth is None:
        truth = theory.exact_curve(mixture, process, _fine())
    return Case(denoiser, range(mixture.components), prior, None, _marks(truth)[0])


def _fine() -> np.ndarray:
    return np.geomspace(80, 0.002, 400)


def _simplex(classes: int, energy: int) -> Callable[[bool], Case]:
    def case(_full: bool) -> Case:
        process = gmm.edm()
        truth = theory.entropy_curve(process, _fine(), float(energy), classes=classes)
        return _exact(gmm.reduce(gmm.families.simplex(classes, max(energy, classes))), truth)

    return case


def _pair(_full: bool) -> Case:
    process = gmm.edm()
    truth = theory.entropy_curve(process, _fine(), 64.0, classes=2)
    return _exact(gmm.reduce(gmm.families.pair(64)), truth)


def _tree(_full: bool) -> Case:
    return _exact(gmm.reduce(gmm.families.tree((2, 4), 64)))


def _rare(_full: bool) -> Case:
    """Three classes of which one has a probability of one in a hundred."""
    prior = np.array([0.495, 0.495, 0.01])
    mixture = gmm.reduce(gmm.families.simplex(3, 64, weights=prior))
    return _exact(mixture, prior=prior)


def _digits(full: bool) -> Case:
    model = load_model("zoo:digits")
    denoiser = Counting(model.denoiser)
    blank = Case(
        denoiser, CLASSES_OF_DIGITS, None, model.grid.times(model.process, BEFORE_STEPS), np.zeros(3)
    )
    if full:
        times = model.grid.times(model.process, 4 * (BEFORE_STEPS - 1) + 1)
        fine = dataclasses.replace(blank, times=times)
        long = _before_curve(fine, jax.random.key(7), LONG_RUN)
    else:
        few: dict[str, Any] = {"precision": None, "samples": PLAIN_LONG_RUN, "steps": LONG_STEPS}
        long = precise_entropy(denoiser, CLASSES_OF_DIGITS, key=jax.random.key(7), times=blank.times, **few)
    return dataclasses.replace(blank, truth=_marks(long)[0], published=full)


CASES: dict[str, Callable[[bool], Case]] = {
    "pair": _pair,
    "simplex8": _simplex(8, 64),
    "simplex100": _simplex(100, 100),
    "simplex1000": _simplex(1000, 1000),
    "tree": _tree,
    "rare": _rare,
    "digits": _digits,
}
