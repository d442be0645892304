"""Forward processes against mpmath, automatic differentiation and their own differential equations."""

import jax
import pytest

from gmm import PROCESSES, ve, vp, vp_linear


@pytest.mark.parametrize("process", [vp(), ve(), vp_linear()], ids=lambda p: p.name)
def test_whole_numbers_are_times_like_any_other(process):
    for method in (process.alpha, process.sigma, process.drift, process.diffusion, process.log_snr):
        assert method(1) == method(1.0)


def test_times_are_checked_where_parameters_of_the_process_are_traced():
    def alpha(beta_max):
        process = vp_linear(0.1, beta_max)
        process.check_times(0.5)
        return process.alpha(0.5)

    # α = exp(-½(0.1 t + ½(β_max - 0.1) t²)).
    assert jax.grad(alpha)(20.0) == pytest.approx(-(0.5**2) / 4 * float(alpha(20.0)), rel=1e-12)


def test_processes_are_different_pytrees():
    # jit keeps one program a structure: two that compare equal would share it.
    structures = [jax.tree.structure(make()) for make in PROCESSES.values()]
    for index, structure in enumerate(structures):
        assert [structure == other for other in structures].count(True) == 1, index
