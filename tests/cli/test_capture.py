from __future__ import annotations

from auditor import capture as module
from auditor.capture import Capture


def test_short_output_is_kept_whole(tmp_path):
    log = Capture(tmp_path / "log", cap=100)
    for _ in range(9):
        log.write(b"123456789\n")
    log.close()
    assert (tmp_path / "log").read_bytes() == b"123456789\n" * 9


def test_long_output_keeps_head_and_tail(tmp_path):
    log = Capture(tmp_path / "log", cap=20)
    for letter in b"abcdefgh":
        log.write(bytes([letter]) * 10)
    log.close()
    assert (tmp_path / "log").read_bytes() == b"a" * 10 + b"\n... 60 bytes left out ...\n" + b"h" * 10


def test_last_lines_show_the_last_state_of_a_redrawn_line():
    log = Capture(None)
    log.write(b"one\n 10%\r 50%\r100%\ntwo \xff\n")
    assert log.last_lines(2) == "100%\ntwo \ufffd"


def test_a_prompt_is_an_unfinished_line_followed_by_silence(monkeypatch):
    monkeypatch.setattr(module, "_QUIET", 0.0)
    log = Capture(None)
    log.write(b"hello\nname? ")
    assert log.prompt() == "name? "
    assert log.prompt() == ""
    log.write(b"\rprogress 10%")
    assert log.prompt() == ""
    log.write(b"\n")
    assert log.prompt() == ""


def test_a_full_disk_does_not_stop_the_draining(tmp_path):
    log = Capture(tmp_path / "log")
    log._file.close()
    log._file = open("/dev/full", "wb", buffering=0)  # noqa: SIM115
    log.write(b"lost\n")
    log.write(b"kept in memory\n")
    log.close()
    assert log.last_lines(1) == "kept in memory"
