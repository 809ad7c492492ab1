"""A script whose every name, printed line and message is an attack: it stays text wherever it is shown."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

SCRIPT = """
import sys

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

EVIL = (
    "</script><img src=x onerror=alert(1)>\\x1b[31m\\x1b]0;title\\x07\\x9b2J\\u202e@octocat | `a` **b** \\udcff\\x00\\r"
    "\\n# h [x](javascript:alert(1)) ![y](https://example/y) #1 $z$ </details></title>"
)
KIND = EVIL.replace("\\udcff", "").replace("\\x00", "")  # Python itself refuses these in the name of a class
torch.manual_seed(0)


def forward(self, x):
    for layer in self.children():
        x = layer(x)
    return x


def length(self):
    return 64


def item(self, index):
    return torch.randn(6) * 50 + 200, index % 2


Net = type(KIND + "N" * 1_000_000, (nn.Module,), {"forward": forward})
Data = type(KIND, (Dataset,), {"__len__": length, "__getitem__": item})
Optimizer = type(KIND, (torch.optim.SGD,), {})
model = Net()
model.add_module(EVIL, nn.Linear(6, 8))
model.add_module(EVIL + " relu", type(KIND, (nn.ReLU,), {})())
model.add_module("n" * 100_000, nn.Linear(8, 2))
loader = DataLoader(Data(), batch_size=8)
optimizer = Optimizer(model.parameters(), lr=0.01)
print(EVIL)
print(EVIL.encode("utf-8", "surrogateescape"), file=sys.stderr)
sys.stdout.buffer.write(b"\\xff\\xfe\\x1b]0;t\\x07")
step = 0
for epoch in range(8):
    for x, y in loader:
        loss = nn.functional.cross_entropy(torch.softmax(model(x), 1), y)
        loss.backward()
        optimizer.step()
        step += 1
        if "crash" in sys.argv and step == 12:
            raise type(KIND, (ValueError,), {})(EVIL)
"""
SCRIPT = SCRIPT.replace("print(EVIL)\n", 'print(EVIL.encode("utf-8", "replace").decode())\n')
REPORTS = ("r.html", "r.md", "r.json", "r.txt")
ACTING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]")


class Tags(HTMLParser):
    """Every tag and attribute of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.scripts = 0
        self.wrong: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script" and ("type", "application/json") not in attrs
        for name, value in attrs:
            led_away = name in {"href", "src"} and not (value or "").startswith(("#", "https://", "data:image/png"))
            if name.startswith("on") or led_away:
                self.wrong.append(f"<{tag} {name}={value!r}>")


def check(folder: Path) -> None:
    """Whatever was written is text, short and UTF-8."""
    page, comment, data, plain = ((folder / name).read_bytes().decode("utf-8") for name in REPORTS)
    tags = Tags(page)
    assert (tags.scripts, tags.wrong) == (1, [])
    assert "Content-Security-Policy" in page
    assert len(page.encode()) <= 2_000_000
    assert len(comment) <= 60_000
    outside_code = re.sub(r"(?ms)^(`{3,}).*?^\1$|`[^`\n]+`", "", comment)
    assert not re.search(r"@\w|://|<(?!/?(details|summary|sub|code|b)>|!-- training-auditor)", outside_code)
    assert json.loads(data)["schema_version"]
    for text in (page, comment.replace("\u200b", ""), plain):
        assert ACTING.findall(text) == []
        assert max(map(len, text.split("\n"))) < 400_000


def test_every_report_shows_it_as_text(warm_shell):
    warm_shell.write(SCRIPT)
    outputs = [word for name in REPORTS for word in ("-o", name)]
    ended = warm_shell.audit("run", "--steps", "24", *outputs, "train.py", "a\x1b[31m", "\udcff</script>")
    assert ended.code == 1, ended.err
    check(warm_shell.folder)
    assert ACTING.findall(ended.out) == []
    assert ACTING.findall(ended.err) == []
    assert "characters)…" in ended.out + (warm_shell.folder / "r.html").read_text()
    audit = json.loads((warm_shell.folder / "r.json").read_text())
    assert audit["run"]["status"] == "completed"
    assert {verdict["outcome"] for verdict in audit["verdicts"]} & {"error"} == set()
    assert not [note for note in audit["run"]["notes"] if "audit itself" in note]
    assert [path.suffix for path in (warm_shell.folder / ".audit").glob("*.pkl")] == []
    again = warm_shell.audit("judge", ".audit/evidence.json", "--format", "json")
    assert again.code == 1
    assert json.loads(again.out)["summary"] == audit["summary"]


def test_its_exception_is_text_too(warm_shell):
    warm_shell.write(SCRIPT)
    outputs = [word for name in REPORTS for word in ("-o", name)]
    ended = warm_shell.audit("run", "--no-experiments", *outputs, "train.py", "crash")
    assert ended.code == 3, ended.err
    check(warm_shell.folder)
    assert ACTING.findall(ended.out) == []
    assert "after 12 steps" in ended.out


def test_nothing_reaches_the_terminal_raw(warm_shell):
    warm_shell.write(SCRIPT)
    ended = warm_shell.audit("run", "--no-experiments", "train.py", "crash")
    assert ACTING.findall(ended.err) == []
