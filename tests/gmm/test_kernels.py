"""The same call gives the same numbers whatever kernel the linear algebra library picks for the processor.

OpenBLAS reads the kernel from OPENBLAS_CORETYPE when it is loaded, hence one process for each. (Where NumPy uses
another library or another kind of processor, the two agree anyway.)
"""

import os
import subprocess
import sys

import numpy as np
import pytest

KERNELS = ("Prescott", "Haswell")
# Rounding of sums over up to a thousand coordinates, relative to the largest number of an array.
EXACT = 1e-12

PROGRAM = """
import sys
import jax, numpy as np
jax.config.update("jax_enable_x64", True)
import gmm
import theory.labelled
from gmm import families
from gmm.reduction import reduction

rng = np.random.default_rng(0)
key = jax.random.key(0)
factor = rng.normal(size=(7, 4))
points = np.concatenate([rng.normal(size=(60, 5)) + 4 * c for c in range(3)]) * [1, 1, 1, 2, 0]
labels = np.repeat(range(3), 60)
made = {}
for dim, reduced in ((64, False), (10**6, True)):
    some = {
        "pair": families.pair(dim, reduced=reduced),
        "simplex": families.simplex(9, dim, reduced=reduced),
        "orthogonal": families.orthogonal(9, dim, reduced=reduced),
        "random": families.random(key, 9, dim, reduced=reduced),
        "tree": families.tree((2, 3, 2), dim, energies=(36.0, 6.0, 1.0), reduced=reduced),
    }
    made |= {f"{name} {dim}": mixture for name, mixture in some.items()}
made |= {
    "from_gram of rank 4": families.from_gram(factor @ factor.T),
    "from_gram of a tree": families.from_gram(families.tree_gram((3, 3), (4.0, 1.0))),
    "from_gram of orthogonal": families.from_gram(np.eye(6)),
}
made |= {f"reduced {name}": gmm.reduce(mixture) for name, mixture in list(made.items())}
for covariance in ("full", "shared", "diagonal", "isotropic"):
    made[f"fitted {covariance}"] = families.fitted(points, labels, covariance=covariance)[0]
turned = np.linalg.qr(rng.normal(size=(8, 8)))[0]
means = rng.normal(size=(3, 8))
for name, covariance in {
    "full": gmm.Full(turned @ np.diag([1, 1, 1, 2, 2, 3, 4, 4]) @ turned.T),
    "each full": gmm.Full(np.stack([np.eye(8), turned @ np.diag([1] * 4 + [2] * 4) @ turned.T, np.zeros((8, 8))])),
    "low rank": gmm.LowRank(turned[:, :4] * [2, 1, 1, 1e-30], 0.5),
    "each low rank": gmm.LowRank(np.stack([np.ones((8, 3)), turned[:, :3], 0 * turned[:, :3]]), 0.5),
}.items():
    made[name] = gmm.Mixture(np.ones(3) / 3, means, covariance)
    if covariance.shared:
        made[f"reduced {name}"] = gmm.reduce(made[name])
        made[f"basis {name}"] = reduction(made[name]).basis
moments = theory.labelled.ClassMoments(np.full(3, 1 / 3), 5 * np.eye(3, 8) @ turned, 0.1 * np.eye(8))
made["opening directions"] = theory.labelled.opening_directions(moments).vectors
leaves = {f"{name}/{i}": leaf for name, m in made.items() for i, leaf in enumerate(jax.tree.leaves(m))}
np.savez(sys.argv[1], **leaves)
"""


@pytest.fixture(scope="module")
def numbers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kernels")
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(folder / f"{kernel}.npz")],
            env={**os.environ, "OPENBLAS_CORETYPE": kernel},
        )
        for kernel in KERNELS
    ]
    assert [run.wait() for run in runs] == [0, 0]
    return [dict(np.load(folder / f"{kernel}.npz")) for kernel in KERNELS]


def test_families_reductions_and_covariances_are_the_same_under_two_kernels(numbers):
    one, other = numbers
    assert one.keys() == other.keys()
    for name in one:
        assert one[name].shape == other[name].shape, name
        finite = np.abs(one[name][np.isfinite(one[name])])
        np.testing.assert_allclose(
            one[name], other[name], rtol=0, atol=EXACT * finite.max(initial=1e-300), err_msg=name
        )
