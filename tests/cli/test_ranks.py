"""Audits of several ranks meet in a folder; without the others, a report comes all the same."""

from __future__ import annotations

import os
import tempfile
import threading
import time

import pytest

from auditor import ranks as module
from auditor.evidence import RankPrint, Ranks
from auditor.ranks import RankFolder, is_follower

RUN = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29999", "WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "none"}


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(module, "PATIENCE", 1.0)
    return tmp_path


def environment(rank, **changes):
    return {**RUN, "RANK": str(rank), **changes}


def seen(rank, world_size=2):
    return Ranks(world_size=world_size, rank=rank, prints=(RankPrint(rank=rank, digests=(f"of {rank}",)),))


def never():
    return False


def test_rank_0_reads_what_the_others_left(temporary, monkeypatch):
    monkeypatch.setattr(module, "PATIENCE", 60.0)
    first, second = RankFolder(environment(0)), RankFolder(environment(1))
    later = threading.Timer(0.3, lambda: second.exchange(seen(1), never))
    later.start()
    found = first.exchange(seen(0), never)
    later.join()
    assert [each.rank for each in found.prints] == [0, 1]
    assert found.prints[1].digests == ("of 1",)
    assert not list(temporary.iterdir())


def test_the_others_do_not_wait(monkeypatch):
    monkeypatch.setattr(module, "PATIENCE", 600.0)
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("it waits"))
    assert RankFolder(environment(1)).exchange(seen(1), never) == seen(1)


def test_a_rank_that_is_not_audited():
    found = RankFolder(environment(0)).exchange(seen(0), never)
    assert len(found.prints) == 1
    assert found.waited >= 1.0


def test_an_interrupt_ends_the_waiting():
    assert RankFolder(environment(0)).exchange(seen(0), lambda: True).waited < 0.5


def test_what_an_earlier_run_left_does_not_count(temporary):
    RankFolder(environment(1)).exchange(seen(1), never)
    [old] = temporary.glob("*/rank1.json")
    os.utime(old, (time.time() - 60, time.time() - 60))
    assert len(RankFolder(environment(0)).exchange(seen(0), never).prints) == 1


def test_each_rank_removes_its_own_of_an_earlier_run(temporary):
    RankFolder(environment(1)).exchange(seen(1), never)
    RankFolder(environment(1))
    assert not list(temporary.glob("*/rank1.json"))


def test_damaged_files_are_no_prints(temporary):
    RankFolder(environment(1)).exchange(seen(1), never)
    [file] = temporary.glob("*/rank1.json")
    file.write_text("{")
    assert len(RankFolder(environment(0)).exchange(seen(0), never).prints) == 1


@pytest.mark.parametrize("changes", [{"WORLD_SIZE": "1"}, {"WORLD_SIZE": ""}, {"MASTER_PORT": ""}, {"WORLD_SIZE": "x"}])
def test_outside_of_a_run_nothing_is_written(temporary, changes):
    given = environment(0, **changes)
    assert RankFolder(given).exchange(seen(0), never) == seen(0)
    assert not is_follower(given)
    assert not list(temporary.iterdir())


def test_runs_at_other_addresses_do_not_meet():
    RankFolder(environment(1, MASTER_PORT="1234")).exchange(seen(1), never)
    assert len(RankFolder(environment(0)).exchange(seen(0), never).prints) == 1


def test_only_rank_0_reports():
    assert is_follower(environment(1))
    assert not is_follower(environment(0))
    assert not is_follower({})
