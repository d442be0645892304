"""``import speciation``: all packages under one name, also where a user's files have the names of ours."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run(code, folder):
    """Run a user's script in a folder, with our packages behind the folder itself on the path."""
    script = folder / "script.py"
    script.write_text(code)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, str(script)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_the_packages_and_the_version_are_there(tmp_path):
    code = """
import speciation, gmm, theory, neural
assert (speciation.gmm, speciation.theory, speciation.neural) == (gmm, theory, neural)
print(speciation.__version__)
"""
    ended = run(code, tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout[0].isdecimal()


@pytest.mark.parametrize(
    ("hiding", "first"),
    [
        ("theory.py", ""),
        ("theory.py", "import theory\n"),
        ("gmm/__init__.py", ""),
        ("gmm/__init__.py", "import gmm\n"),
    ],
)
def test_a_file_or_folder_that_hides_a_package_is_named(tmp_path, hiding, first):
    path = tmp_path / hiding
    path.parent.mkdir(exist_ok=True)
    path.write_text("")
    assert _refusal(run(f"{first}import speciation", tmp_path)).endswith(
        f"Python finds {path} under that name; rename that file or folder, or start Python where it is not in the way"
    )


def test_a_folder_without_python_hides_a_package_that_is_found_later(tmp_path):
    """As with editable installations, whose packages come after every folder on the path."""
    (tmp_path / "theory").mkdir()
    code = f"""
import importlib.machinery, sys
sys.path.remove({str(ROOT)!r})
class Last:
    find_spec = staticmethod(lambda name, path=None, target=None: importlib.machinery.PathFinder.find_spec(
        name, [{str(ROOT)!r}], target))
sys.meta_path.append(Last)
import speciation
"""
    assert f"Python finds {tmp_path / 'theory'} under that name" in _refusal(run(code, tmp_path))


def _refusal(ended):
    last = ended.stderr.splitlines()[-1]
    assert last.startswith("ImportError: speciation needs its own package"), ended.stderr
    return last
