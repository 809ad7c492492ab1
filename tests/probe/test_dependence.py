"""Simple statistics tell labels that belong to their inputs from labels that do not."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from auditor.probe.dependence import dependence  # noqa: E402
from auditor.probe.experiments.label_control import DEPENDS  # noqa: E402

ROWS, CLASSES = 1200, 4


def drawn(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3))


LABELS = torch.randint(0, CLASSES, (ROWS,), generator=torch.Generator().manual_seed(5))
TOKENS = torch.randint(0, 50, (ROWS, 12), generator=torch.Generator().manual_seed(4))


def waves():
    """The class is the frequency, whatever the phase."""
    time, phase = torch.arange(32.0), 6.28 * torch.rand(ROWS, 1, generator=torch.Generator().manual_seed(6))
    return torch.sin((0.3 + 0.3 * LABELS[:, None]) * time + phase) + drawn(ROWS, 32)


@pytest.mark.parametrize(
    "table",
    [
        drawn(ROWS, 20) + 0.3 * LABELS[:, None],
        drawn(ROWS, 20) * (1 + 0.3 * LABELS[:, None]),
        waves(),
        waves().unsqueeze(1),
        torch.where(torch.arange(12) == 5, LABELS[:, None], TOKENS),
    ],
    ids=["means", "spreads", "waves", "channels", "tokens"],
)
def test_labels_that_belong_to_their_inputs(table):
    assert dependence([table], LABELS) > DEPENDS
    assert dependence([table], LABELS.roll(1)) < DEPENDS / 2


@pytest.mark.parametrize("table", [torch.zeros(ROWS, 3), torch.full((ROWS, 3), torch.nan), drawn(ROWS, 0)])
def test_inputs_that_say_nothing(table):
    assert dependence([table], LABELS) == 0.0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_samples_that_come_again_count_once(dtype):
    table, labels = drawn(ROWS, 20).to(dtype), LABELS.roll(1)
    once, again = dependence([table], labels), dependence([torch.cat([table, table])], torch.cat([labels, labels]))
    assert again == once < DEPENDS / 2


def test_random_numbers_of_the_program_are_left_alone():
    before = torch.get_rng_state()
    dependence([waves()], LABELS)
    assert torch.equal(before, torch.get_rng_state())
