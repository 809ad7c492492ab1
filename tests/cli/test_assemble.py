"""Evidence of several starts of the child becomes one."""

from __future__ import annotations

from auditor.assemble import assemble
from auditor.evidence import LabelControl, Run
from auditor.spec import Gathered
from auditor.supervisor import Ending


def start(steps: int, *waiting: str, finished: bool = True) -> Ending:
    gathered = Gathered()
    gathered.parts["label_control"] = LabelControl(
        real=(1.0,) * steps, shuffled=(), samples=96, level=1.0, observed=1.0
    )
    gathered.run = {"pending": list(waiting), "finished": finished}
    return Ending(gathered=gathered, exit_code=0)


def kept(*endings: Ending) -> int:
    found = assemble(Run(target="train.py"), endings, 1.0).label_control
    return len(found.real) if found is not None else 0


def test_a_part_that_the_scripts_end_cut_short_is_taken_from_the_start_that_did_it_again():
    assert kept(start(3, "label_control"), start(5)) == 5
    assert kept(start(3, "label_control"), start(2, "label_control")) == 3
    assert kept(start(3), start(5)) == 3
    assert kept(start(3, "label_control"), start(5, finished=False)) == 3
