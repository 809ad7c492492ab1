"""A few values of a leaked sample, for the eye."""

from __future__ import annotations

from types import SimpleNamespace

import numpy
import torch

from auditor.probe.samplerows import MOST, row, shown


def test_a_short_row_is_shown_whole() -> None:
    found = row(torch.tensor([1.0, 2.5, -3.14159265]))
    assert (found.values, found.places, found.size) == (("1", "2.5", "-3.142"), (0, 1, 2), 3)


def test_of_a_long_row_values_are_spread_from_its_first_to_its_last() -> None:
    found = row(numpy.arange(1000))
    assert len(found.values) == MOST
    assert (found.places[0], found.places[-1], found.size) == (0, 999, 1000)
    assert found.values == tuple(map(str, found.places))


def test_texts_and_named_fields() -> None:
    assert row("to be " * 1000).values[0].startswith("to be to be")
    assert row("to be").size == 5
    assert row(("a text", 3)).values == ("a text",)
    assert row({"text": "a text"}).values == ("a text",)
    assert row({"name": "x", "tokens": torch.tensor([5, 6])}).values == ("5", "6")


def test_what_has_no_values() -> None:
    assert [row(sample) for sample in (None, object(), torch.zeros(0), torch.zeros(2, dtype=torch.complex64))] == [
        None
    ] * 4


def test_pictures_come_first_and_a_sample_that_fails_shows_nothing() -> None:
    def fails(_: int) -> None:
        raise OSError

    images = SimpleNamespace(sample=lambda _: torch.rand(3, 8, 8))
    assert set(shown(images, 0, images, 1)) == {"thumbnail", "held_out_thumbnail"}
    assert shown(SimpleNamespace(sample=fails), 0, SimpleNamespace(sample=fails), 1) == {
        "row": None,
        "held_out_row": None,
    }
