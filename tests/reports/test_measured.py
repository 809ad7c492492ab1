"""What the page shows of measurements: categories, heat maps, times, pairs, tables."""

from __future__ import annotations

import base64
import html as escaped
import json
import math
import re
import struct
import zlib

import pytest
from auditor.reports import bars, categories, data_facts, heat, html, layer_facts, pairs, times

from auditor import evidence as ev
from auditor.result import Audit


def pixels(figure: str) -> list[list[int]]:
    """The palette indices of the first PNG in a figure, as the page's script reads them."""
    data = base64.b64decode(re.search(r"base64,([^\"]+)", figure)[1])
    width, height = struct.unpack(">II", data[16:24])
    start = data.index(b"IDAT")
    raw = zlib.decompress(data[start + 4 : start + 4 + struct.unpack(">I", data[start - 4 : start])[0]])
    return [list(raw[row * (width + 1) + 1 : (row + 1) * (width + 1)]) for row in range(height)]


def test_categories_tell_the_worst_of_each_family(faulty: Audit) -> None:
    found = {category.name: category for category in categories.states(faulty)}
    assert found["Leakage"].kind == "error"
    assert found["Leakage"].words.startswith("1 error")
    assert found["Initialization"].kind == "pass"
    kinds = [category.kind for category in categories.states(faulty)]
    order = ["error", "warning", "note", "pass", "inconclusive", "not-applicable"]
    assert kinds == sorted(kinds, key=order.index)
    families = {verdict.family for verdict in faulty.verdicts} | {finding.family for finding in faulty.findings}
    assert len(kinds) == len(families)


def test_a_pixel_of_a_heat_map_tells_its_value(faulty: Audit) -> None:
    chart = heat.gradients(faulty.evidence)
    assert chart
    told = json.loads(escaped.unescape(re.search(r'data-heat="([^"]*)"', chart.figure)[1]))
    part = faulty.evidence.gradients
    assert told["rows"] == [layer.name for layer in part.layers]
    assert told["steps"] == list(part.steps)
    for layer, row in zip(part.layers, pixels(chart.figure), strict=True):
        for norm, index in zip(layer.norms, row, strict=True):
            value = told["low"] * (told["high"] / told["low"]) ** ((index + 0.5) / told["shades"])
            assert value == pytest.approx(norm, rel=0.03)


def test_a_heat_map_of_updates_keeps_zero_and_holes_apart() -> None:
    layers = (
        ev.LayerUpdates(name="a.weight", ratios=(0.001, 0.0)),
        ev.LayerUpdates(name="b.weight", ratios=(math.nan, 0.01)),
    )
    evidence = ev.Evidence(run=ev.Run(target="x.py"), updates=ev.Updates(steps=(0, 9), layers=layers))
    chart = heat.updates(evidence)
    assert chart
    assert pixels(chart.figure) == [[0, 240], [241, 239]]
    assert "step 0" in chart.conclusion
    assert "step 9" in chart.conclusion


def timed(**more: object) -> ev.Evidence:
    values = {"loader": "loader", "waits": (0.001, 0.002, 0.001), "seconds": (0.01, 0.01, 0.02), **more}
    run = ev.Run(target="x.py", device=str(values.pop("device", "cpu")))
    return ev.Evidence(run=run, data_wait=ev.DataWait(**values))


def test_the_time_of_a_step_is_split_where_the_calls_wait_for_their_work() -> None:
    split = {"forward": (0.003,) * 3, "backward": (0.004,) * 3, "update": (0.001,) * 3}
    chart = times.steps(timed(**split))
    assert chart
    names = ("step", "waiting for data", "forward", "backward", "update", "the rest of the loop", "together, ms")
    assert chart.table.head == names
    assert chart.table.rows[0] == ("0", "1", "3", "4", "1", "1", "10")
    assert chart.table.rows[1][-2:] == ("0", "10")
    assert "waited less than 1 ms for data: 10 % of it" in chart.conclusion
    coarse = times.steps(timed(device="cuda:0", **split))
    assert coarse
    assert coarse.table.head == ("step", "waiting for data", "everything else", "together, ms")


def test_without_times_there_is_no_picture_of_them() -> None:
    assert times.steps(timed(waits=(), seconds=())) is None
    assert times.steps(timed(seconds=(math.nan,) * 3)) is None
    assert times.steps(ev.Evidence(run=ev.Run(target="x.py"))) is None


def test_saturated_layers_are_listed_the_worst_first() -> None:
    layers = tuple(
        ev.SaturatedLayer(name=name, function="tanh", units=10, saturated_start=0, saturated_end=end,
                          share_start=0.0, share_end=end / 10, samples=100)
        for name, end in (("first", 2), ("second", 7))
    )  # fmt: skip
    evidence = ev.Evidence(run=ev.Run(target="x.py"), saturation=ev.Saturation(steps=(0, 9), layers=layers))
    chart = bars.saturated(evidence)
    assert chart
    assert [row[0] for row in chart.table.rows] == ["second", "first"]
    assert "9 of 20 bounded units" in chart.conclusion
    assert "second with 70 %" in chart.conclusion


def test_without_saturated_units_few_empty_bars_are_drawn() -> None:
    layers = tuple(
        ev.SaturatedLayer(name=str(i), function="tanh", units=10, saturated_start=0, saturated_end=0,
                          share_start=0.0, share_end=0.0, samples=100)
        for i in range(30)
    )  # fmt: skip
    evidence = ev.Evidence(run=ev.Run(target="x.py"), saturation=ev.Saturation(steps=(0, 9), layers=layers))
    chart = bars.saturated(evidence)
    assert chart
    assert chart.conclusion == "At the end no bounded unit of 30 layers sat where its slope has vanished."
    assert chart.figure.count('class="track"') == 3
    assert len(chart.table.rows) == 30


def test_near_duplicates_stand_after_the_equal_ones(faulty: Audit) -> None:
    twin = ev.TwinPair(training_index=3, held_out_index=5, ratio=0.1, training_label="a", held_out_label="b")
    near = ev.NearDuplicates(
        training="train_loader", held_out="test_loader", kind="image", training_samples=100, held_out_samples=50,
        compared=50, searched=100, neighbours=5, dimension=8.0, chance=0.001, ratio_limit=0.3, twins=4, pairs=(twin,),
    )  # fmt: skip
    found = pairs.leaks(faulty.evidence.model_copy(update={"near_duplicates": near}))
    assert [leak.title for leak in found] == ["Leaked samples", "Nearly equal samples"]
    assert found[1].pairs[0].differ
    assert found[1].rest == 3


def test_the_table_of_layers_has_what_was_measured(faulty: Audit) -> None:
    measured = layer_facts.measured(faulty.evidence)
    assert measured.head == ("gradient norm", "update to weight", "dead units")
    assert measured.cells("features.2")[2] == "64.1 %"
    assert measured.cells("nowhere") == ["–"] * 3
    assert layer_facts.measured(ev.Evidence(run=ev.Run(target="x.py"))).head == ()


def test_the_data_has_a_table(faulty: Audit) -> None:
    data, splits = data_facts.tables(faulty.evidence)
    assert data
    assert splits
    assert ("inputs", "image, 64×3×32×32") in data.rows
    assert splits.rows[0][1] == "training"


def test_samples_without_pictures_stand_in_a_table(faulty: Audit) -> None:
    rows = {"row": ev.Row(values=("1", "2.5"), places=(0, 999), size=1000),
            "held_out_row": ev.Row(values=("1", "2.6"), places=(0, 999), size=1000)}  # fmt: skip
    pair = ev.SamplePair(training_index=3, held_out_index=5, training_label="a", held_out_label="b", **rows)
    overlap = ev.Overlap(training="t", held_out="h", shared=9, held_out_samples=10, pairs=(pair,))
    evidence = faulty.evidence.model_copy(update={"leakage": ev.Leakage(splits=(), overlaps=(overlap,))})
    (leak,) = pairs.leaks(evidence)
    assert leak.rows
    assert leak.rows.head == ("split", "index", "label", "[0]", "[999]")
    above, below = leak.rows.pairs[0]
    assert [cell for cell, _ in above] == ["training", "#3", "a", "1", "2.5"]
    assert [differs for _, differs in below] == [False, False, True, False, True]
    assert leak.rows.note == "2 of the 1,000 values of a sample, spread over all of it."
    page = html.render(faulty.model_copy(update={"evidence": evidence}))
    assert '<td class="differ">2.6</td>' in page


def test_texts_on_both_sides_of_a_split(faulty: Audit) -> None:
    pair = ev.SamplePair(training_index=3, held_out_index=5, row=ev.Row(values=("<b>to be",), size=90))
    overlap = ev.Overlap(training="t", held_out="h", shared=1, held_out_samples=10, pairs=(pair,))
    evidence = faulty.evidence.model_copy(update={"leakage": ev.Leakage(splits=(), overlaps=(overlap,))})
    (leak,) = pairs.leaks(evidence)
    assert leak.rows
    assert leak.rows.head == ("split", "index", "text")
    assert "&lt;b&gt;to be" in html.render(faulty.model_copy(update={"evidence": evidence}))
