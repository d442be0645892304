"""The front door: the ``speciation`` command, one file a figure, sweeps and reports."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from paper_figures.studies.sweep import sweep

__all__ = ["sweep"]


def __getattr__(name: str) -> Any:
    # Not at the top: help and errors of the command come at once, and must not wait for jax.
    if name == "sweep":
        from paper_figures.studies.sweep import sweep

        return sweep
    raise AttributeError(f"module 'paper_figures' has no attribute {name!r}")
