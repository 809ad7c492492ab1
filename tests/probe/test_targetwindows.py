"""Columns that are a moving mean of the target, its own value among it."""

from __future__ import annotations

import pytest
import torch

from auditor.probe.targetwindows import TargetWindows
from tests.probe.test_copied_targets import copies

N = 400


def series(seed: int = 0, keep: float = 0.7) -> torch.Tensor:
    noise = torch.randn(N + 60, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    values = [noise[0]]
    for each in noise[1:]:
        values.append(keep * values[-1] + each)
    return torch.stack(values)


def looked_at(rows, targets, shuffled=True):
    order = torch.randperm(len(rows)) if shuffled else torch.arange(len(rows))
    windows = TargetWindows()
    for part in order.split(25):
        windows.note(rows[part].float(), targets[part].float()[:, None], None)
    return windows.found()


def table(y, *features, start=30, end=N):
    """Two lags, a calendar and what each feature makes of the series at a day."""
    rows = [[y[d - 1], y[d - 7], float(d % 7), *(feature(y, d) for feature in features)] for d in range(start, end)]
    return torch.tensor(rows, dtype=torch.float64), y[start:end]


MEANS = {
    "week": (lambda y, d: y[d - 6 : d + 1].mean(), 1 / 7),
    "centred": (lambda y, d: y[d - 2 : d + 3].mean(), 1 / 5),
    "month": (lambda y, d: 100 + 3 * y[d - 27 : d + 1].sum(), 1 / 28),
    "weighted": (lambda y, d: (0.4 * 0.6 ** torch.arange(25.0).double() * y[d - 24 : d + 1].flip(0)).sum(), 0.4),
}


@pytest.mark.parametrize("name", MEANS)
def test_a_mean_with_the_rows_own_target(name):
    feature, own = MEANS[name]
    (found,) = looked_at(*table(series(), lambda y, d: y[d - 14 : d].mean(), feature))
    assert found.column == 4
    assert found.weights[found.past] == pytest.approx(own, rel=1e-2)
    assert found.rows >= 300


HONEST = {
    "past": lambda y, d: y[d - 7 : d].mean(),
    "nothing but noise beside": lambda y, d: y[d - 6 : d + 1].mean() + 0.01 * torch.sin(1e4 * y[d]),
    "largest": lambda y, d: y[d - 7 : d].max(),
    "sum of all so far": lambda y, d: y[:d].sum(),
    "known beforehand": lambda _, d: torch.cos(torch.tensor(d * 1.7)),
}


@pytest.mark.parametrize("name", HONEST)
def test_features_that_are_known_by_then(name):
    assert looked_at(*table(series(), HONEST[name])) == ()


def test_a_series_without_noise_says_its_next_value_itself():
    wave = torch.sin(0.3 * torch.arange(N + 60.0).double())
    assert looked_at(*table(wave, lambda y, d: y[d - 6 : d + 1].mean())) == ()


def test_rows_of_several_series_are_not_mixed():
    parts = [table(series(seed), MEANS["week"][0], end=200) for seed in range(3)]
    (found,) = looked_at(torch.cat([rows for rows, _ in parts]), torch.cat([targets for _, targets in parts]))
    assert (found.column, found.weights[found.past]) == (3, pytest.approx(1 / 7, rel=1e-3))


def test_without_a_lag_nothing_tells_that_it_forecasts():
    rows, targets = table(series(), MEANS["week"][0])
    assert looked_at(rows[:, 2:], targets) == ()


@pytest.mark.parametrize(("reach", "leaks"), [(2, True), (0, False)])
@pytest.mark.parametrize("channels", [1, 3])
def test_windows_of_a_smoothed_series(reach, leaks, channels):
    y = series()
    smooth = torch.stack([y[max(0, t - 4) : t + reach + 1].mean() for t in range(N)])
    starts = range(30, N - 40)
    windows = torch.stack([smooth[s : s + 12] for s in starts])
    if channels > 1:
        windows = torch.stack([windows, torch.stack([y.cos()[s : s + 12] for s in starts]), windows.tanh()], -1)
    found = looked_at(windows, torch.stack([y[s + 12] for s in starts]))
    assert bool(found) == leaks


def test_in_a_training(zygote):
    """Of the data set, where the batches of a few steps would hold few rows with all their neighbours."""
    target = "torch.randn(320); x = torch.stack([y.roll(1), y.roll(2), torch.randn(320), MEAN / 3], 1)"
    (found,) = copies(zygote, "6", target.replace("MEAN", "(y + y.roll(1) + y.roll(2))")).windows
    assert (found.column, round(found.weights[found.past], 3)) == (3, 0.333)
    assert found.rows > 300
    assert copies(zygote, "6", target.replace("MEAN", "(y.roll(3) + y.roll(1) + y.roll(2))")).windows == ()
