"""Cut properties out of an XMP packet, and put others in, with all its other bytes left alone.

No XML library writes a document as it was (prefixes, order, padding, quotes), so this one is only
read: expat tells where each element lies, and the edits are made in the bytes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import NoReturn
from xml.parsers import expat

#: Namespace and local name.
Name = tuple[str, str]

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"

#: Real packets have some ten levels, and at most some thousand elements and attributes.
_MAX_DEPTH, _MAX_NODES = 100, 100_000

# Possessive, so that no tag is searched twice.
_TAG = re.compile(rb"""<[^\s/>]++(?:[^"'>]++|"[^"]*+"|'[^']*+')*+>""")
_ATTRIBUTE = re.compile(rb"""(?<!\s)\s++([^\s=/>]++)\s*+=\s*+("[^"]*+"|'[^']*+')""")


@dataclass(slots=True, eq=False)
class Attribute:
    """An attribute; ``start`` is that of the space before it, ``value_start`` that of its quote."""

    name: Name
    text: str
    owner: Element
    start: int
    value_start: int
    end: int


@dataclass(slots=True, eq=False)
class Element:
    """An element, from its ``<`` to behind its last ``>``; ``inner_*`` bound what it encloses."""

    name: Name
    parent: Element | None
    start: int
    inner_start: int
    inner_end: int = 0
    end: int = 0
    text: str = ""
    is_leaf: bool = True
    attributes: list[Attribute] = field(default_factory=list)

    def inside(self, *names: Name) -> Element | None:
        """The nearest enclosing element of one of the names, itself included."""
        here: Element | None = self
        while here is not None and here.name not in names:
            here = here.parent
        return here


Node = Element | Attribute


class Packet:
    """A packet, its elements in the order in which they begin, and the edits to be made.

    Args:
        data: UTF-8, or UTF-16, which is kept.

    Raises:
        ValueError: it is not well-formed XML, or has a DTD, whose entities can grow without bound.
    """

    def __init__(self, data: bytes) -> None:
        self._original = data
        self._encoding = _encoding(data)
        if self._encoding != "utf-8":
            data = data.decode(self._encoding).encode()
        self.data = data
        self.elements: list[Element] = []
        self.prefixes: dict[str, set[str]] = {}
        self._open: list[Element] = []
        self._said_by_open: list[list[str]] = []
        self._count = 0
        self._edits: list[tuple[int, int, bytes]] = []
        self._offset = len(data) - len(data.lstrip(b"\0 \t\r\n"))
        self._parser = self._made_parser()
        try:
            self._parser.Parse(data[self._offset :].rstrip(b"\0 \t\r\n"), True)
        except (expat.ExpatError, UnicodeError) as error:
            if not self.elements or self._open:  # what follows the last element does not matter
                raise ValueError(f"not XML: {error}") from None

    def _made_parser(self) -> expat.XMLParserType:
        parser = expat.ParserCreate("UTF-8", " ")
        parser.ordered_attributes = True
        parser.buffer_text = True
        parser.StartDoctypeDeclHandler = _refuse
        parser.StartNamespaceDeclHandler = self._declared
        parser.StartElementHandler = self._started
        parser.EndElementHandler = self._ended
        parser.CharacterDataHandler = self._said
        return parser

    def _declared(self, prefix: str | None, uri: str | None) -> None:
        self.prefixes.setdefault(prefix or "", set()).add(uri or "")

    def _started(self, name: str, attributes: list[str]) -> None:
        start = self._offset + self._parser.CurrentByteIndex
        tag = _TAG.match(self.data, start)
        if tag is None:
            raise ValueError("not XML as we read it")
        if len(self._open) > _MAX_DEPTH:
            raise ValueError("its elements are nested too deep")
        self._count += 1 + len(attributes) // 2
        if self._count > _MAX_NODES:
            raise ValueError("it has too many elements")
        parent = self._open[-1] if self._open else None
        element = Element(_split(name), parent, start, tag.end())
        if parent:
            parent.is_leaf = False
        written = [
            match
            for match in _ATTRIBUTE.finditer(self.data, start, tag.end())
            if match[1] != b"xmlns" and not match[1].startswith(b"xmlns:")
        ]
        pairs = zip(attributes[::2], attributes[1::2], written, strict=True)
        for key, text, match in pairs:
            spot = (match.start(), match.start(2), match.end())
            element.attributes.append(Attribute(_split(key), text, element, *spot))
        self.elements.append(element)
        self._open.append(element)
        self._said_by_open.append([])

    def _ended(self, _: str) -> None:
        element = self._open.pop()
        element.text = "".join(self._said_by_open.pop())
        if self.data[element.inner_start - 2 : element.inner_start] == b"/>":
            element.inner_end = element.end = element.inner_start
            return
        element.inner_end = self._offset + self._parser.CurrentByteIndex
        element.end = self.data.index(b">", element.inner_end) + 1

    def _said(self, text: str) -> None:
        if self._said_by_open:  # joined at the end: a text may come in a million pieces
            self._said_by_open[-1].append(text)

    def nodes(self) -> list[Node]:
        """All elements and attributes."""
        found: list[Node] = []
        for element in self.elements:
            found += [element, *element.attributes]
        return found

    def remove(self, node: Node) -> None:
        """Take a node out, with the space before it."""
        start = node.start
        while isinstance(node, Element) and self.data[start - 1 : start].isspace():
            start -= 1
        self._edits.append((start, node.end, b""))

    def replace(self, node: Node, text: str) -> None:
        """Give a node another text; it must need no escaping."""
        if isinstance(node, Attribute):
            self._edits.append((node.value_start, node.end, b'"%s"' % text.encode()))
        else:
            self._edits.append((node.inner_start, node.inner_end, text.encode()))

    def add(self, element: Element, prefix: str, name: Name, text: str) -> None:
        """Give an element another attribute; the text must need no escaping."""
        if self.prefixes.get(prefix, {name[0]}) != {name[0]}:
            prefix += "_"
        self.prefixes.setdefault(prefix, {name[0]})
        tag = self.data[element.start : element.inner_start]
        end = element.inner_start - (2 if tag.endswith(b"/>") else 1)
        added = f' {prefix}:{name[1]}="{text}"'
        if not re.search(rb"\sxmlns:%s\s*=" % prefix.encode(), tag):
            added = f' xmlns:{prefix}="{name[0]}"' + added
        self._edits.append((end, end, added.encode()))

    def edited(self) -> bytes:
        """The packet with all edits; the same object if there are none."""
        if not self._edits:
            return self._original
        parts, position = [], 0
        for start, end, text in sorted(self._edits, key=lambda edit: edit[:2]):
            if start < position:  # inside of what was taken out, or taken out twice
                position = max(position, end)
                continue
            parts += [self.data[position:start], text]
            position = end
        whole = b"".join([*parts, self.data[position:]])
        return whole if self._encoding == "utf-8" else whole.decode().encode(self._encoding)


def _encoding(data: bytes) -> str:
    if data[:2] in (b"\xfe\xff", b"\0<"):
        return "utf-16-be"
    return "utf-16-le" if data[:2] in (b"\xff\xfe", b"<\0") else "utf-8"


def _split(name: str) -> Name:
    uri, _, local = name.rpartition(" ")
    return uri, local


def _refuse(*_: object) -> NoReturn:
    raise ValueError("it has a DTD")
