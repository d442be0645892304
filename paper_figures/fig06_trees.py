"""Hierarchical classes: the coarse decision comes first, and each has a window of its own."""

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import gmm
from gmm.curve import EntropyCurve
from paper_figures.curves import peak, stack, unstack
from paper_figures.numbers import Number, attach, number
from paper_figures.settings import Settings
from paper_figures.style import (
    BAND_STDERRS,
    View,
    draw_entropy,
    draw_rate,
    entropy_label,
    new_figure,
    noise_axis,
    rate_label,
    sequence,
    title,
)
from theory import binary_entropy, tree_entropy, window

CAPTION = """
A tree of classes: three branches of four leaves, each leaf's mean the sum of an orthogonal increment of energy 400
for its branch and one of energy 9 for itself, within-class variance 1, under the variance-preserving process. Lines
are quadrature, points sampled with bars of two standard errors. (a) Entropy of the leaf, of the branch, and of the
leaf once the branch is known. (b) Their rates, with the windows that hold the central 80% of each decision's
information: the coarse decision is over before the fine one begins. (c) Decisions that do not exhaust the classes:
two leaves of one branch, two leaves of different branches, two branches of three. Sampling and posterior are both
restricted to the classes in question. (d) Clone agreement of branch and leaf.
"""

BRANCHING, ENERGIES = (3, 4), (400.0, 9.0)
WINDOW_SHARE = 0.8
LEAF, BRANCH, WITHIN = "leaf", "branch", "leaf given branch"
ONE_BRANCH, TWO_BRANCHES, BRANCHES = (
    "two leaves, one branch",
    "two leaves, two branches",
    "two of three branches",
)
