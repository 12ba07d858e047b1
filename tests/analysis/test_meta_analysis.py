"""Random effects against their definitions and by simulation."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t

from semscale.analysis import conclude, random_effects, summarise_datasets

EFFECTS = np.array([0.02, 0.05, -0.01, 0.03, 0.08])
VARIANCES = np.array([1e-4, 2e-4, 1e-4, 4e-4, 3e-4])


def test_paule_and_mandel_make_the_scatter_what_it_should_be() -> None:
    found = random_effects(EFFECTS, VARIANCES)
    w = 1 / (VARIANCES + found.tau2)
    assert found.tau2 > 0
    assert (w * (EFFECTS - found.mean) ** 2).sum() == pytest.approx(4, rel=1e-9)
    error = max(w.sum() ** -0.5, np.sqrt((w * (EFFECTS - found.mean) ** 2).sum() / (4 * w.sum())))
    assert found.high == pytest.approx(found.mean + t.ppf(0.975, 4) * error, rel=1e-9)


def test_equal_effects_have_no_variance_between_them() -> None:
    found = random_effects([0.02, 0.02, 0.02], [1e-4, 2e-4, 3e-4])
    assert (found.mean, found.tau2) == (pytest.approx(0.02), 0.0)


def test_one_dataset_keeps_its_own_interval() -> None:
    found = random_effects([0.02], [1e-4])
    assert (found.low, found.high) == pytest.approx((0.02 - 0.0196, 0.02 + 0.0196), abs=1e-5)


def test_the_interval_of_the_mean_covers() -> None:
    rng = np.random.default_rng(0)
    held = []
    for _ in range(1500):
        v = rng.uniform(0.5, 2.0, 10)
        y = 0.3 + rng.normal(0, 1, 10) + rng.normal(0, np.sqrt(v))
        found = random_effects(y, v)
        held.append(found.low <= 0.3 <= found.high)
    assert 0.93 <= np.mean(held) <= 0.97


@pytest.mark.parametrize(("effects", "variances"), [([], []), ([0.1], [0.0]), ([0.1, 0.2], [1.0])])
def test_what_cannot_be_summarised_is_refused(effects: list[float], variances: list[float]) -> None:
    with pytest.raises(ValueError, match="expected"):
        random_effects(effects, variances)


def test_datasets_are_summarised_per_scale() -> None:
    tables = []
    for name, finals in {"a": (0.65, 0.70), "b": (0.66, 0.72), "c": (0.60, 0.55)}.items():
        correct = np.arange(2000)[:, None] < 2000 * np.array([0.6, *finals])
        tables.append(conclude([1, 2, 4], correct, replicates=100).steps.assign(dataset=name))
    table = summarise_datasets(pd.concat(tables)).set_index("scale")
    assert table.index.tolist() == [2, 4]
    assert (table["n_datasets"] == 3).all()
    assert table["rising"].tolist() == pytest.approx([2 / 3, 2 / 3])
    assert table["falling"].tolist() == pytest.approx([0, 1 / 3])
    assert table["mean_change"][4] == pytest.approx((0.10 + 0.12 - 0.05) / 3, abs=0.002)
    assert table["low"][4] < 0 < table["high"][4]
    assert summarise_datasets(pd.concat(tables).query("scale == 1")).empty
