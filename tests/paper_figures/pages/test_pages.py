"""What the explorer is made of, without a browser."""

import math

import numpy as np
import pytest

import theory
from gmm.curve import EntropyCurve
from paper_figures import cli
from paper_figures.pages import flat_table
from paper_figures.pages.bundle import LARGEST, in_script
from paper_figures.pages.setting import Setting, exact_curve, noise_levels, parse_setting

POINTS = 60


def test_the_table_is_as_exact_as_the_page_states():
    rng = np.random.default_rng(0)
    table = flat_table.shipped()
    for log_classes, log_ratio in zip(
        rng.uniform(0.7, 27.6, POINTS), rng.uniform(-7, 3, POINTS), strict=True
    ):
        classes = math.exp(log_classes)
        rho = math.exp(log_ratio) * log_classes
        entropy, disagreement = flat_table.interpolated(table, classes, rho)
        exact = theory.orthogonal_entropy(classes, rho) / log_classes
        agreement = theory.orthogonal_clone_agreement(classes, rho)
        assert entropy == pytest.approx(exact, abs=flat_table.ERROR)
        assert 1 - disagreement * (1 - 1 / classes) == pytest.approx(agreement, abs=flat_table.ERROR)


def test_the_page_is_one_small_file(tmp_path, capsys):
    page = tmp_path / "explorer.html"
    assert cli.run(["explore", "--out", str(page)]) == 0
    assert str(page) in capsys.readouterr().out
    assert page.stat().st_size < LARGEST


@pytest.mark.parametrize("mode", ["flat", "prior", "tree", "guided"])
def test_the_command_writes_the_curve_of_a_setting(mode, tmp_path):
    target = tmp_path / "curve.nc"
    text = f"#mode={mode}&dim=100&variance=0.5&prior=0.2&coarse=2&fine=3&classes=5&axis=sigma"
    assert cli.run(["explore", "--setting", text, "--curve", str(target)]) == 0
    curve = EntropyCurve.load(target)
    assert curve.entropy.min() < 0.05 * curve.prior_entropy
    assert curve.entropy.max() > 0.95 * curve.prior_entropy


def test_a_rare_class_is_the_binary_channel():
    setting = Setting(mode="prior", prior=0.03, dim=50, separation=0.4, variance=0.7)
    levels = noise_levels(setting)[::20]
    rho = setting.energy / (setting.variance + np.exp(-levels))
    exact = theory.binary_entropy(rho, 0.03)
    assert exact_curve(setting, levels).entropy == pytest.approx(exact, abs=1e-12)


@pytest.mark.parametrize("text", ["mode=other", "dim=0", "prior=2", "classes=nan", "weight=x", "process=vpp"])
def test_bad_settings_name_what_is_allowed(text, capsys):
    assert cli.run(["explore", "--setting", text]) == cli.BAD_INPUT
    assert text.split("=")[0] in capsys.readouterr().err


def test_a_setting_without_a_decision_is_refused():
    with pytest.raises(ValueError, match="visits"):
        noise_levels(parse_setting("process=ddpm&dim=1e9&separation=1000&classes=2"))


def test_texts_cannot_end_their_element():
    assert "<" not in in_script({"name": "</script><script>alert(1)</script>"})
