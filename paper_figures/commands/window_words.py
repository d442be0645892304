"""A measured window in words."""

import math
from collections.abc import Iterator

from gmm.window_file import Decided, MeasuredWindow, Place, SamplerSteps
from paper_figures.formats.numbers import with_error
from paper_figures.formats.words import shortened


def in_words(window: MeasuredWindow) -> Iterator[str]:
    """A window line by line: its places, how much was decided, and the steps of samplers."""
    yield f"{window.model} decides {window.question} ({shortened(list(window.cells))}):"
    yield f"  {window.share:.0%} of the information, from much noise to little"
    rows = {"from": window.high, "half by": window.median, "to": window.low}
    for name, place in rows.items():
        yield f"  {name:8} {_in_units(place)}"
    if window.decided is not None:
        yield f"  {_share_in_words(window.decided, window.prior_entropy)}"
    for steps in window.samplers:
        yield f"  {in_steps(steps)}"


def _in_units(place: Place) -> str:
    stderr = math.nan if place.stderr is None else place.stderr
    sigma, log_snr = with_error(place.sigma, place.sigma * stderr), with_error(place.log_snr, 2 * stderr)
    interval = "" if place.interval is None else f" (95%: {place.interval[0]:.4g} .. {place.interval[1]:.4g})"
    return f"σ/α = {sigma}{interval}, log SNR = {log_snr}, t = {place.t:.5g}"


def _share_in_words(decided: Decided, prior_entropy: float) -> str:
    share = f"{decided.share:.1%}" + ("" if decided.stderr is None else f" ± {decided.stderr:.1%}")
    high = with_error(decided.entropy_high, decided.entropy_high_stderr)
    low = with_error(decided.entropy_low, decided.entropy_low_stderr)
    return (
        f"decided: {share} of H[Z] = {prior_entropy:.4g} nat; H from {high} at most noise to {low} at least"
    )


def in_steps(steps: SamplerSteps) -> str:
    """Which steps of a sampler lie in a window, in words."""
    which = f"of {steps.steps} {steps.sampler} steps (0 the noisiest)"
    if steps.inside is None:
        return f"no step {which} lies in it"
    ends = [
        "before the first" if i is None and first else "after the last" if i is None else f"{i:.2f}"
        for first, i in ((True, steps.first), (False, steps.last))
    ]
    return f"{which}: {steps.inside[0]} to {steps.inside[1]}; its ends are at {ends[0]} and {ends[1]}"
