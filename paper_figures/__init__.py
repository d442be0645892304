"""The ``speciation`` command and the figures; `sweep` is for use from Python."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from paper_figures.studies.sweep import sweep

__all__ = ["sweep"]


def __getattr__(name: str) -> Any:
    # Imported when it is used: help and errors of the command must not wait for jax.
    if name == "sweep":
        from paper_figures.studies.sweep import sweep

        return sweep
    raise AttributeError(f"module 'paper_figures' has no attribute {name!r}")
