"""A source file as a concrete syntax tree, with the place of every node in the text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

import libcst as cst
from libcst.metadata import CodePosition, CodeRange, MetadataWrapper, ParentNodeProvider, PositionProvider

from auditor.edits.changes import Change, NoEdit

NEWLINE = re.compile(r"\r\n|\n|\r")
Node = TypeVar("Node", bound=cst.CSTNode)


class Parsed:
    """`arguments` are what the script was started with. Raises NoEdit when the text cannot be read without loss."""

    def __init__(self, text: str, arguments: Sequence[str] = ()) -> None:
        try:
            self.module = cst.parse_module(text)
            if self.module.code != text:
                raise NoEdit("the file cannot be read without loss")
            wrapper = MetadataWrapper(self.module, unsafe_skip_copy=True)
            self._places: Mapping[cst.CSTNode, CodeRange] = wrapper.resolve(PositionProvider)
            self._parents: Mapping[cst.CSTNode, cst.CSTNode] = wrapper.resolve(ParentNodeProvider)
        except (cst.ParserSyntaxError, RecursionError, ValueError):
            raise NoEdit("the file is not valid Python") from None
        self.text = text
        self.arguments = tuple(arguments)
        self._starts = [0, *(match.end() for match in NEWLINE.finditer(text))]
        self._nodes = tuple(self._places)

    # ------------------------------------------------------------------------------------------------------ places

    def _offset(self, place: CodePosition) -> int:
        return self._starts[place.line - 1] + place.column

    def span(self, node: cst.CSTNode) -> tuple[int, int]:
        """Offsets of a node's text, its own parentheses included."""
        first, last = node, node
        if lpar := getattr(node, "lpar", ()):
            first, last = lpar[0], node.rpar[-1]  # type: ignore[attr-defined]
        return self._offset(self._places[first].start), self._offset(self._places[last].end)

    def code(self, node: cst.CSTNode) -> str:
        start, end = self.span(node)
        return self.text[start:end]

    def replaced(self, node: cst.CSTNode, text: str) -> Change:
        return Change(*self.span(node), text)

    def lines(self, node: cst.CSTNode) -> tuple[int, int]:
        """First and last line."""
        place = self._places[node]
        return place.start.line, place.end.line

    def line_span(self, line: int) -> tuple[int, int]:
        """Offsets of a line, its line break included."""
        return self._starts[line - 1], self._starts[line] if line < len(self._starts) else len(self.text)

    def line_text(self, line: int) -> str:
        """The line without its line break; '' beyond the last."""
        return self.text[slice(*self.line_span(line))].rstrip("\r\n") if line <= len(self._starts) else ""

    def line_break(self, line: int) -> str:
        """How this line ends, or the file's usual way where it does not."""
        text = self.text[slice(*self.line_span(line))]
        return text[len(text.rstrip("\r\n")) :] or self.module.default_newline

    # ------------------------------------------------------------------------------------------------------- nodes

    def every(self, kind: type[Node]) -> Iterator[Node]:
        """All nodes of a class, in the order of the text."""
        return (node for node in self._nodes if isinstance(node, kind))

    def inside(self, node: cst.CSTNode, kind: type[Node]) -> list[Node]:
        """All nodes of a class within one, itself included."""
        return [each for each in self.every(kind) if each is node or node in self.above(each)]

    def parent(self, node: cst.CSTNode) -> cst.CSTNode | None:
        return self._parents.get(node)

    def above(self, node: cst.CSTNode) -> Iterator[cst.CSTNode]:
        """What a node is in, from the inside."""
        found = self.parent(node)
        while found is not None:
            yield found
            found = self.parent(found)

    def scope(self, node: cst.CSTNode) -> cst.FunctionDef | cst.Lambda | cst.Module:
        """The function that a node's code runs in, or the module."""
        kinds = (cst.FunctionDef, cst.Lambda)
        return next((each for each in self.above(node) if isinstance(each, kinds)), self.module)

    def calls_at(self, line: int) -> list[cst.Call]:
        """Calls that a line of a traceback may mean: the function's name stands on it."""
        return [call for call in self.every(cst.Call) if self._named_at(call, line)]

    def calls_around(self, line: int) -> list[cst.Call]:
        """Calls whose text reaches over the line."""
        return [call for call in self.every(cst.Call) if self.lines(call)[0] <= line <= self.lines(call)[1]]

    def _named_at(self, call: cst.Call, line: int) -> bool:
        last = self._places[call.func].end.line
        name = call.func.attr if isinstance(call.func, cst.Attribute) else call.func
        return line in (self.lines(call)[0], self.lines(name)[0], last)
