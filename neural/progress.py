"""The one signature of progress callbacks."""

from collections.abc import Callable

Progress = Callable[[int, int], None]
"""``progress(done, total)``, called after each finished part, in whatever unit the function states."""
