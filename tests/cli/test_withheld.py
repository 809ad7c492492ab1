"""--no-samples: nothing of the user's samples in any report."""

from __future__ import annotations

from auditor import evidence as ev
from auditor.withheld import without_samples

PAIR = {"training_index": 1, "held_out_index": 2, "training_label": "mole", "held_out_label": "mole",
        "thumbnail": "data:image/png;base64,AAAA", "held_out_thumbnail": "data:image/png;base64,AAAA",
        "row": ev.Row(values=("4711",)), "held_out_row": ev.Row(values=("4711",))}  # fmt: skip


def evidence() -> ev.Evidence:
    overlap = ev.Overlap(training="a", held_out="b", shared=1, held_out_samples=9, pairs=(ev.SamplePair(**PAIR),))
    near = ev.NearDuplicates(
        training="a", held_out="b", kind="image", training_samples=9, held_out_samples=9, compared=9, searched=9,
        neighbours=5, dimension=3.0, chance=0.01, ratio_limit=0.3, twins=1, pairs=(ev.TwinPair(ratio=0.1, **PAIR),),
    )  # fmt: skip
    group = ev.GroupOverlap(training="a", held_out="b", shared=1, held_out_groups=3, examples=("Jane Doe",))
    return ev.Evidence(
        run=ev.Run(target="x.py"),
        leakage=ev.Leakage(splits=(), overlaps=(overlap,)),
        near_duplicates=near,
        groups=ev.Groups(key="patient", splits=(), overlaps=(group,)),
    )


def test_pictures_labels_and_names_are_left_out_and_counts_stay() -> None:
    before = evidence()
    assert all(word in before.model_dump_json() for word in ("mole", "AAAA", "Jane", "4711"))
    after = without_samples(before)
    text = after.model_dump_json()
    assert not any(word in text for word in ("mole", "AAAA", "Jane", "4711"))
    assert after.leakage
    assert (after.leakage.overlaps[0].shared, after.leakage.overlaps[0].pairs[0].training_index) == (1, 1)
    assert "--no-samples" in after.run.notes[-1]


def test_evidence_without_samples_stays_as_it_is() -> None:
    bare = ev.Evidence(run=ev.Run(target="x.py"))
    assert without_samples(bare).model_dump(exclude={"run"}) == bare.model_dump(exclude={"run"})
