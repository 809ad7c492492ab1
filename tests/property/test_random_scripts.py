"""A few of the random training scripts; `python tests/property/random_scripts.py --count 200` audits more."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import random_scripts

# Chosen for what they are made of; together they hold most of the options.
SEEDS = (38, 92, 169, 181, 226, 253)


@pytest.fixture(scope="module")
def zygote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[random_scripts.probing.Zygote]:
    process = random_scripts.probing.Zygote(tmp_path_factory.mktemp("scripts"))
    yield process
    process.close()


@pytest.mark.parametrize("seed", SEEDS)
def test_a_random_script_is_audited_and_left_as_it_is(zygote: random_scripts.probing.Zygote, seed: int) -> None:
    script = random_scripts.writer.write(seed)
    assert random_scripts.problems(zygote, seed) == [], f"{script.features}\n{script.text}"


def test_the_same_seed_writes_the_same_script() -> None:
    assert random_scripts.writer.write(5) == random_scripts.writer.write(5) != random_scripts.writer.write(6)


def test_most_options_are_drawn() -> None:
    drawn = {name for seed in range(300) for name in random_scripts.writer.write(seed).features}
    wanted = {"model:functional", "model:lazy", "tied", "double", "feed:workers", "feed:iterable", "update:closure"}
    wanted |= {"update:two", "accumulation", "autocast", "gradient penalty", "evaluation", "style:class"}
    assert wanted <= drawn
