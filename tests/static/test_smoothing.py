"""Filters that look ahead, over a series that is to be forecast."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from auditor.evidence import FutureFilter
from auditor.static import facts

IMPORTS = """
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from numpy.lib.stride_tricks import sliding_window_view
from scipy.ndimage import gaussian_filter1d
from scipy.signal import filtfilt, savgol_filter
"""

WINDOWS = """
H, AHEAD = 24, 3
level = load()
rain = load_rain()
level = (level - level[:800].mean()) / level[:800].std()
FILTER
x = np.stack([smooth[t - H:t] for t in range(H, len(level) - AHEAD)])
y = np.array([TARGET for t in range(H, len(level) - AHEAD)])
"""


def read(tmp_path: Path, text: str) -> tuple[FutureFilter, ...]:
    path = tmp_path / "train.py"
    path.write_text(IMPORTS + textwrap.dedent(text))
    return facts.of_script(path).future_filters


def windows(tmp_path: Path, smooth: str, target: str = "level[t + AHEAD]") -> tuple[FutureFilter, ...]:
    return read(tmp_path, WINDOWS.replace("FILTER", smooth).replace("TARGET", target))


AHEAD = [
    "smooth = np.convolve(level, np.ones(7) / 7, mode='same')",
    "smooth = np.convolve(level, np.ones(7) / 7, 'same')",
    "padded = np.pad(level, 3, mode='edge')\nsmooth = np.convolve(padded, np.ones(7) / 7, mode='valid')",
    "smooth = np.convolve(np.pad(level, (3, 3)), np.ones(7) / 7, mode='valid')",
    "smooth = pd.Series(level).rolling(7, center=True, min_periods=1).mean().to_numpy()",
    "smooth = filtfilt(b, a, level)",
    "smooth = savgol_filter(level, 11, 3)",
    "smooth = gaussian_filter1d(level, 2.0)",
    "smooth = F.avg_pool1d(torch.tensor(level)[None], 7, stride=1, padding=3)[0]",
    "sums = np.cumsum(np.pad(level, (4, 4)))\nsmooth = (sums[7:] - sums[:-7]) / 7",
    "smooth = sliding_window_view(np.pad(level, 3), 7).mean(-1)",
    "smooth = np.array([level[max(0, t - 3):t + 4].mean() for t in range(len(level))])",
    "def calm(series, k=7):\n    return savgol_filter(series, k, 2)\nsmooth = np.stack([calm(level), rain], 1)",
]


@pytest.mark.parametrize("smooth", AHEAD)
def test_filters_that_look_ahead(tmp_path: Path, smooth: str) -> None:
    (found,) = windows(tmp_path, smooth)
    assert found.data == "level"
    assert found.location.line < found.target_location.line


@pytest.mark.parametrize(
    "smooth",
    [
        "smooth = np.convolve(np.pad(level, (6, 0)), np.ones(7) / 7, mode='valid')",
        "smooth = pd.Series(level).rolling(7, min_periods=1).mean().to_numpy()",
        "smooth = pd.Series(level).rolling(7, center=False).mean().to_numpy()",
        "smooth = np.array([level[max(0, t - 6):t + 1].mean() for t in range(len(level))])",
        "smooth = np.array([level[t:t + 6].mean() for t in range(len(level))])",  # a target of the next steps, perhaps
        "smooth = savgol_filter(rain, 11, 3)",  # of another series
        "smooth = level.copy()",
        "sums = np.cumsum(np.pad(level, (7, 0)))\nsmooth = (sums[7:] - sums[:-7]) / 7",
    ],
)
def test_filters_of_the_past(tmp_path: Path, smooth: str) -> None:
    assert not windows(tmp_path, smooth)


@pytest.mark.parametrize(
    ("target", "found"),
    [
        ("level[t]", True),
        ("level[t:t + AHEAD]", True),
        ("level[t - 1]", False),  # known by then
        ("level[t - H // 2]", False),  # in the middle: smoothed, not forecast
        ("rain[t]", False),
        ("smooth[t]", False),  # both smoothed: another question
        ("kind[t]", False),
    ],
)
def test_what_the_windows_are_to_tell(tmp_path: Path, target: str, found: bool) -> None:
    assert bool(windows(tmp_path, AHEAD[0], target)) == found


def test_series_made_of_one_clock_are_two(tmp_path: Path) -> None:
    made = "hours = np.arange(900)\nlevel = np.sin(hours)\nload = np.cos(hours) + 0.1 * level\n" + AHEAD[0]
    assert not windows(tmp_path, made, "load[t]")
    assert windows(tmp_path, made)


DATASET = """
class Windows(Dataset):
    def __init__(self, inputs, target, first):
        self.inputs, self.target = torch.tensor(inputs), torch.tensor(target)
        self.rows = range(first, len(target))

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, k):
        i = self.rows[k]
        return self.inputs[i - 16:i], self.target[i]

data = Windows(GIVEN, 16)
"""


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("savgol_filter(level, 9, 2), level", True),
        ("target=level, inputs=savgol_filter(level, 9, 2)", True),
        ("level, savgol_filter(level, 9, 2)", False),  # learns to smooth
        ("savgol_filter(level, 9, 2), savgol_filter(level, 9, 2)", False),
        ("level, level", False),
    ],
)
def test_windows_that_a_data_set_cuts(tmp_path: Path, given: str, found: bool) -> None:
    assert bool(read(tmp_path, DATASET.replace("GIVEN, 16", f"{given}, first=16"))) == found


@pytest.mark.parametrize(("first", "found"), [("H:", True), ("H + 2:", True), (":-H", False), ("H // 2:", False)])
def test_all_windows_at_once(tmp_path: Path, first: str, found: bool) -> None:
    text = f"""
    smooth = gaussian_filter1d(level, 3)
    x, y = sliding_window_view(smooth, H)[:-1], level[{first}]
    """
    assert bool(read(tmp_path, text)) == found


def test_parts_of_a_split_are_no_windows(tmp_path: Path) -> None:
    assert not read(tmp_path, "smooth = savgol_filter(x, 9, 2)\na, b = smooth[warm:n], x[n:]\n")
