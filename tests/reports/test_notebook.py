"""An audit in a notebook: the page in a frame that cannot act, and text where there is no HTML."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from auditor.reports import html, markdown

from auditor import notebook
from auditor.result import Audit


class Shown(HTMLParser):
    """The frame, and what stands outside of it."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.frames: list[dict[str, str | None]] = []
        self.outside = ""
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag == "iframe":
            self.frames.append(dict(attrs))

    def handle_data(self, data: str) -> None:
        self.outside += data


def test_the_page_stands_in_a_frame_that_cannot_act(audit: Audit) -> None:
    shown = Shown(audit._repr_html_())
    assert set(shown.tags) == {"p", "strong", "iframe"}
    (frame,) = shown.frames
    assert frame["srcdoc"] == html.render(audit)
    assert frame["sandbox"] == "allow-popups allow-popups-to-escape-sandbox"  # neither scripts nor our origin
    assert not [name for name in frame if name.startswith("on") or name == "src"]


def test_the_verdict_is_outside_of_the_frame(faulty: Audit) -> None:
    assert Shown(faulty._repr_html_()).outside == "✖ Not ready: 2 faults (3 errors) would waste this run."


def test_a_page_that_would_swell_the_notebook_is_text(faulty: Audit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notebook, "LARGEST_PAGE", 1_000)
    shown = Shown(faulty._repr_html_())
    assert set(shown.tags) == {"p", "strong", "pre"}
    assert notebook.plain(faulty) in shown.outside


def test_hostile_text_stays_text(hostile: Audit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notebook, "LARGEST_PAGE", 1_000)
    assert set(Shown(hostile._repr_html_()).tags) == {"p", "strong", "pre"}


def test_bundle(audit: Audit) -> None:
    found = audit._repr_mimebundle_(include=None, exclude=None)
    assert set(found) == {"text/plain", "text/markdown", "text/html"}
    assert found["text/markdown"] == markdown.render(audit)
    assert found["text/html"] == audit._repr_html_()
    assert found["text/plain"] == notebook.plain(audit)
    assert "\x1b" not in found["text/plain"]
    assert found == Audit.model_validate_json(audit.to_json())._repr_mimebundle_()


def test_repr_is_one_short_line(audit: Audit) -> None:
    assert len(repr(audit)) < 200
    assert repr(audit).isprintable()
    assert repr(audit) == str(audit)
