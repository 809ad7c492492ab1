"""Layers that are built in another way."""

from __future__ import annotations

import pytest

from auditor.evidence import RemedyKind

BATCH_FIRST = RemedyKind.BATCH_FIRST


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("rnn = nn.LSTM(8, 16)", "rnn = nn.LSTM(8, 16, batch_first=True)"),
        ("rnn = nn.GRU(8, 16, num_layers=2)  # two", "rnn = nn.GRU(8, 16, num_layers=2, batch_first=True)  # two"),
        ("rnn = nn.LSTM(8, 16, batch_first=False)", "rnn = nn.LSTM(8, 16, batch_first=True)"),
        ("rnn = nn.RNN(8, 16, 1, True, False)", "rnn = nn.RNN(8, 16, 1, True, True)"),
        ("at = nn.MultiheadAttention(16, 4)", "at = nn.MultiheadAttention(16, 4, batch_first=True)"),
    ],
)
def test_a_layer_takes_the_batch_first(edit, before: str, after: str) -> None:
    assert edit(before, before[:6], BATCH_FIRST) == [f"-{before}", f"+{after}"]


def test_so_do_all_others_of_the_file_as_in_the_trial(edit) -> None:
    rows = edit("a = nn.GRU(2, 4)\nb = nn.GRU(4, 4, batch_first=True)\nc = nn.LSTM(4, 4)\n", "a =", BATCH_FIRST)
    assert rows == [
        "-a = nn.GRU(2, 4)",
        "+a = nn.GRU(2, 4, batch_first=True)",
        "-c = nn.LSTM(4, 4)",
        "+c = nn.LSTM(4, 4, batch_first=True)",
    ]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("rnn = nn.LSTM(8, 16, batch_first=True)", "already"),
        ("rnn = nn.LSTM(8, 16, batch_first=first)", "not written in its call"),
        ("rnn = nn.LSTM(**options)", "arguments may hold"),
        ("rnn = build(8, 16)", "no recurrent or attention layer"),
    ],
)
def test_what_cannot_be_written_says_why(edit, line: str, reason: str) -> None:
    assert reason in edit.refused(line, "rnn", BATCH_FIRST)
