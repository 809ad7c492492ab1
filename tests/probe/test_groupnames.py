"""Keys of groups that nobody declared."""

from __future__ import annotations

import pytest

from auditor.probe.groupnames import named_key, told_by_group


class Clips:
    def __init__(self, **columns):
        vars(self).update(columns)

    def __len__(self):
        return 6

    def __getitem__(self, index):
        return index


CODES = [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize(
    ("dataset", "key"),
    [
        (Clips(patient_ids=CODES), "patient_ids"),
        (Clips(speaker=["a", "a", "b", "b", "c", "c"], label=CODES), "speaker"),
        ([{"x": 0.5, "subject": code} for code in CODES], "subject"),
        (Clips(site=CODES), ""),
        (Clips(patient=CODES, speaker=CODES), ""),  # which of them?
        (Clips(speaker=[0.5] * 6), ""),  # measured
        (Clips(patients=[0, 1]), ""),  # not one a sample
        ([(code, code) for code in CODES], ""),
        ([], ""),
    ],
)
def test_names_that_say_whose_it_is(dataset, key):
    assert named_key(dataset) == key


WHO = [f"p{index // 5}" for index in range(60)]


@pytest.mark.parametrize(
    ("groups", "labels", "told"),
    [
        (WHO, [str(index // 5 % 2) for index in range(60)], True),
        (WHO, [str(0.37 * (index // 5) + 0.1) for index in range(60)], True),  # a score for each
        (WHO, [str(index // 5) for index in range(60)], False),  # who it is, is asked for
        (WHO, [str(index % 2) for index in range(60)], False),
        (WHO, ["0"] * 60, False),
        (WHO, [""] * 60, False),
        (WHO[:20], [str(index // 5 % 2) for index in range(20)], False),  # too few groups
        ([str(index) for index in range(60)], [str(index % 2) for index in range(60)], False),  # of one sample each
    ],
)
def test_whether_the_group_tells_the_label(groups, labels, told):
    assert told_by_group(groups, labels) is told
