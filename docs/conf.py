"""Sphinx's configuration of the site: `make docs` builds it into docs/_build, without a network."""

import importlib.metadata
import importlib.util
import re
import sys
import zlib
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "extensions"))

project = "speciation"
author = "The speciation developers"
copyright = author  # noqa: A001
version = release = importlib.metadata.version("speciation")

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.intersphinx",
    "sphinx_copybutton",
    "sphinx_design",
    "command_line",
    "explorer",
    "gallery",
]
exclude_patterns = ["_build", "inventories", "extensions"]
highlight_language = "text"

# Text: MyST Markdown, notebooks executed at build.
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
nb_execution_mode = "cache"
nb_execution_cache_path = str(HERE / "_build" / "notebooks")
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_execution_in_temp = True
nb_merge_streams = True
# Two lessons need an extra: without it they are built without outputs, and a note on the page says so.
NEEDS = {"torch": "tutorials/torch-model.md", "diffusers": "tutorials/diffusers-pipeline.md"}
_missing = [extra for extra in NEEDS if importlib.util.find_spec(extra) is None]
nb_execution_excludepatterns = [NEEDS[extra] for extra in _missing]
for _extra in _missing:
    tags.add(f"without_{_extra}")  # noqa: F821  # pyright: ignore[reportUndefinedVariable]  (Sphinx defines it)

# Docstrings are Google's style; what stands in single backticks is code.
default_role = "literal"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
autodoc_default_options = {"members": True, "show-inheritance": False}
napoleon_numpy_docstring = False
napoleon_use_ivar = True
python_maximum_signature_line_length = 80

html_theme = "furo"
html_title = "speciation"
html_show_sourcelink = False
html_show_search_summary = False  # excerpts are fetched, which a page from a folder may not do
html_static_path = ["static"]
html_css_files = ["site.css"]
html_theme_options = {"navigation_with_keys": True}
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True


def _inventory(text: Path) -> str:
    """An inventory of Sphinx made of a text file: its first line names project and version, others one object each."""
    head, *lines = text.read_text(encoding="utf-8").splitlines()
    name, number = head.split()
    made = HERE / "_build" / "inventories" / f"{text.stem}.inv"
    made.parent.mkdir(parents=True, exist_ok=True)
    header = (
        f"# Sphinx inventory version 2\n# Project: {name}\n# Version: {number}\n# compressed with zlib.\n"
    )
    made.write_bytes(
        header.encode() + zlib.compress("".join(f"{line} -\n" for line in lines if line).encode())
    )
    return str(made)


intersphinx_mapping = {
    "jax": ("https://docs.jax.dev/en/latest", _inventory(HERE / "inventories" / "jax.txt")),
    "numpy": ("https://numpy.org/doc/stable", _inventory(HERE / "inventories" / "numpy.txt")),
    "xarray": ("https://docs.xarray.dev/en/stable", _inventory(HERE / "inventories" / "xarray.txt")),
    "diffusers": (
        "https://huggingface.co/docs/diffusers",
        _inventory(HERE / "inventories" / "diffusers.txt"),
    ),
}


def _as_plain_text(_app: Any, _what: str, _name: str, _object: Any, _options: Any, lines: list[str]) -> None:
    """Docstrings are plain text: |x| and *args are not markup of reStructuredText. Code blocks stay as they are."""
    in_code = False
    for number, line in enumerate(lines):
        if line and not line.startswith(" "):
            in_code = False
        if not in_code:
            parts = re.split(r"(``.+?``|`.+?`)", line)
            parts[::2] = [re.sub(r"\||\*(?=[*\w])", r"\\\g<0>", part) for part in parts[::2]]
            lines[number] = "".join(parts)
        in_code = in_code or line.rstrip().endswith("::")


def _with_public_names(
    _app: Any, _what: str, _name: str, _object: Any, _options: Any, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """Signatures name arrays as users import them, so that they link to the manuals of JAX and NumPy."""
    return tuple(
        text and re.sub(r"\bndarray\b", "numpy.ndarray", text.replace("jaxlib._jax.Array", "jax.Array"))
        for text in (signature, returns)
    )  # type: ignore[return-value]


def setup(app: Any) -> None:
    """Connect what changes docstrings and signatures; before napoleon, which reads the sections of docstrings."""
    app.connect("autodoc-process-docstring", _as_plain_text, priority=100)
    app.connect("autodoc-process-signature", _with_public_names)
