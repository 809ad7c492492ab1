"""How an audit shows itself in a notebook.

The page stands in a frame: its style and the notebook's do not mix, and what a script made up, such as class names,
cannot act on the notebook even if some escaping were wrong, because the frame may run no script and has an origin of
its own. Above it stands the verdict, for viewers that take frames away. A notebook keeps what it shows, so a page that
would swell its file gives way to the text.
"""

from __future__ import annotations

from html import escape

from auditor.registry import report_formats
from auditor.result import Audit

LARGEST_PAGE = 1_000_000  # characters
_WIDTH = 100


def plain(audit: Audit) -> str:
    """The report as text, without colours."""
    return str(report_formats()["text"].render(audit, width=_WIDTH)).rstrip("\n")


def page(audit: Audit) -> str:
    """The verdict, and the whole page in a frame below it."""
    shown = str(report_formats()["html"].render(audit))
    text = plain(audit)
    verdict = f"<p><strong>{escape(text.partition(chr(10))[0])}</strong></p>"
    if len(shown) > LARGEST_PAGE:
        return f"{verdict}<pre>{escape(text)}</pre>"
    return (
        f'{verdict}<iframe title="Audit" sandbox="allow-popups allow-popups-to-escape-sandbox"'
        ' style="width:100%;height:40rem;border:1px solid #8886;border-radius:4px"'
        f' srcdoc="{escape(shown)}"></iframe>'
    )


def bundle(audit: Audit) -> dict[str, str]:
    """By MIME type; a viewer takes the richest that it can show."""
    markdown = str(report_formats()["markdown"].render(audit))
    return {"text/plain": plain(audit), "text/markdown": markdown, "text/html": page(audit)}
