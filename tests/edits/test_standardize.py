"""Measured constants in torchvision's transforms."""

from __future__ import annotations

from typing import Any

import pytest

from auditor.evidence import RemedyKind

KIND = RemedyKind.STANDARDIZE_INPUTS
MEASURED: dict[str, Any] = {"mean": (0.49139, 0.48215, 0.44653), "std": (0.24703, 0.24348, 0.26159)}
TV = "from torchvision import datasets, transforms\nfrom torchvision.transforms import v2\n"


def test_a_normalize_is_added_behind_the_tensor(edit) -> None:
    body = TV + "t = transforms.Compose([transforms.RandomCrop(32), transforms.ToTensor()])\n"
    assert edit(body, "t = ", KIND, **MEASURED)[-1] == (
        "+t = transforms.Compose([transforms.RandomCrop(32), transforms.ToTensor(), "
        "transforms.Normalize([0.4914, 0.4822, 0.4465], [0.247, 0.2435, 0.2616])])"
    )


def test_on_a_line_of_its_own(edit) -> None:
    body = TV + "t = v2.Compose([\n    v2.ToImage(),\n    v2.ToDtype(torch.float32, scale=True),  # to 0..1\n])\n"
    assert edit(body, "t = ", KIND, mean=(0.5,), std=(0.25,)) == ["+    v2.Normalize([0.5], [0.25]),"]
    body = body.replace("True),", "True)")
    assert edit(body, "t = ", KIND, mean=(0.5,), std=(0.25,)) == [
        "-    v2.ToDtype(torch.float32, scale=True)  # to 0..1",
        "+    v2.ToDtype(torch.float32, scale=True),  # to 0..1",
        "+    v2.Normalize([0.5], [0.25])",
    ]


def test_the_only_composition_is_found_from_the_loader(edit) -> None:
    body = TV + "t = transforms.Compose([transforms.ToTensor()])\ndata = datasets.MNIST('.', transform=t)\n"
    assert len(edit(body + "loader = DataLoader(data)", "loader", KIND, mean=(0.13,), std=(0.3,))) == 2


def test_other_constants_are_made_up_for(edit) -> None:
    """What is measured lies behind them: 0.5 + 0.5 * -0.04 is the mean before."""
    body = TV + "t = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.5,), (0.5,))])\n"
    assert edit(body, "t = ", KIND, mean=(-0.04, 0.2), std=(0.5, 0.6))[-1] == (
        "+t = transforms.Compose([transforms.ToTensor(), transforms.Normalize([0.48, 0.6], [0.25, 0.3])])"
    )


@pytest.mark.parametrize(
    ("body", "measured", "reason"),
    [
        ("t = transforms.Compose([transforms.ToTensor()])", {}, "were not measured"),
        ("t = transforms.Compose([transforms.ToTensor()])", {"mean": (1.0,), "std": (0.0,)}, "cannot be used"),
        ("t = transforms.Compose([transforms.ToTensor()])", {"mean": (127.0,), "std": (70.0,)}, "are rescaled behind"),
        ("t = transforms.Compose([transforms.ToTensor(), Cutout()])", MEASURED, "other transforms follow"),
        ("t = transforms.Compose([transforms.PILToTensor()])", MEASURED, "a tensor from 0 to 1"),
        ("t = transforms.Compose(steps)", MEASURED, "not written as a list"),
        ("t = model(x)", MEASURED, "not certain which transforms"),
        (
            "t = transforms.Compose([transforms.ToTensor(), transforms.Normalize(MEAN, STD)])",
            MEASURED,
            "not plain numbers",
        ),
        (
            "t = transforms.Compose([transforms.ToTensor(), transforms.Normalize((1, 2), (1, 2))])",
            MEASURED,
            "another number of channels",
        ),
        (
            "t = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.5,), (0.2,))])",
            {"mean": (0.0,), "std": (1.0,)},
            "standardized already",
        ),
        (
            "a = transforms.Compose([transforms.ToTensor()])\nb = transforms.Compose([transforms.ToTensor()])\nt = 1",
            MEASURED,
            "not certain which transforms",
        ),
    ],
)
def test_refusals(edit, body: str, measured: dict[str, Any], reason: str) -> None:
    assert reason in edit.refused(TV + body, "t = ", KIND, **measured)


# -------------------------------------------------------------------------------------------------------------- tables

SPLIT = "x_train, y_train, x_test, y_test = x[:80], y[:80], x[80:], y[80:]\n"
SPLIT_BY_SKLEARN = "x_train, x_test, y_train, y_test = train_test_split(x, y, test_size=0.2)\n"
LOADER = "loader = DataLoader(TensorDataset(x_train, y_train), batch_size=8)\n"
LINES = [
    "+mean, std = x_train.mean(0), x_train.std(0)",
    "+x_train, x_test = (x_train - mean) / std, (x_test - mean) / std",
]


@pytest.mark.parametrize("split", [SPLIT, SPLIT_BY_SKLEARN])
def test_a_table_is_standardized_where_it_is_split(edit, split: str) -> None:
    show = "def show(x):\n    return net(x)\n"
    assert edit("x, y = load()\n" + split + LOADER + show, "loader", KIND, subject="table") == LINES
    apart = LOADER.replace("TensorDataset(x_train, y_train)", "data")
    body = "x, y = load()\n" + split + "data = TensorDataset(x_train, y_train)\n" + apart
    assert edit(body, "loader", KIND, subject="table") == LINES


def test_other_names_where_these_are_taken(edit) -> None:
    body = "mean = 3\nx, y = load()\n" + SPLIT + LOADER
    assert edit(body, "loader", KIND, subject="table")[0] == "+x_mean, x_std = x_train.mean(0), x_train.std(0)"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (LOADER, "held out is not certain"),
        ("x_train, y_train = load()\n" + LOADER, "held out is not certain"),
        ("x_train, y_train = x[:80], y[:80]\n" + LOADER, "held out is not certain"),
        (SPLIT + LOADER + "error = net(x[80:])\n", "held out is not certain"),
        (SPLIT + LOADER + "def error():\n    return net(x[80:])\n", "held out is not certain"),
        (SPLIT + "x_test = clean(x_test)\n" + LOADER, "assigned in several places"),
        ("loader = DataLoader(Rows(x_train))\n", "not a table with a name"),
        ("loader = make(x_train)\n", "not a table with a name"),
        ("mean = x_std = 1\n" + SPLIT + LOADER, "names that the file uses"),
    ],
)
def test_a_table_is_left_alone(edit, body: str, reason: str) -> None:
    assert reason in edit.refused(body, "loader", KIND, subject="table")
