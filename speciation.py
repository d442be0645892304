"""The packages of this project under one name: ``import speciation``.

`speciation.gmm`, `speciation.theory` and `speciation.neural` are the installed packages `gmm`, `theory` and `neural`,
which can be imported by these names as well.
"""

import importlib.metadata
import importlib.util
import sys
from pathlib import Path

__all__ = ["__version__", "gmm", "neural", "theory"]

_HERE = Path(__file__).resolve().parent


def _place(name: str) -> Path | None:
    """Where Python finds the package or module of that name, or has found it already."""
    if name in sys.modules:
        module = sys.modules[name]
        file, folders = getattr(module, "__file__", None), getattr(module, "__path__", ())
    else:
        spec = importlib.util.find_spec(name)
        if spec is None:
            return None
        file, folders = spec.origin, spec.submodule_search_locations or ()
    places = [file] if file else [*folders]
    return Path(places[0]).resolve() if places else None


def _check_not_hidden(name: str) -> None:
    """Raise ImportError when a folder or file of the user's has the name of one of our packages."""
    place = _place(name)
    if place != _HERE / name / "__init__.py":
        raise ImportError(
            f"speciation needs its own package {name!r}, but Python finds {place} under that name; rename that file "
            "or folder, or start Python where it is not in the way"
        )


for _name in ("gmm", "theory", "neural"):
    _check_not_hidden(_name)

import gmm  # noqa: E402
import neural  # noqa: E402
import theory  # noqa: E402

__version__ = importlib.metadata.version("speciation")
