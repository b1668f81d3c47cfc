"""Refresh an XMP packet: drop thumbnails, depth maps, and references to dropped data.

A packet that changes is serialised again, without padding; others are kept byte for byte.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from xml.dom.minidom import Attr, Document, Element, Node, Text, parseString
from xml.parsers.expat import ExpatError
from xml.sax.saxutils import quoteattr

from stages.codecs.stale.pictures import contains_picture
from stages.codecs.stale.policy import C2PA_MANIFEST, SOFTWARE, StaleDataPolicy

GAIN_MAP, UNLABELLED = "gain map", "XMP not marked as edited"
_PICTURE, _PICTURE_LIST = "picture inside the XMP", "list of further pictures"

_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_XMP = "http://ns.adobe.com/xap/1.0/"
_CAMERA = "http://ns.google.com/photos/1.0/camera/"

#: Dropped data, by the namespace of the properties that contain or describe it.
_ABOUT = {
    "http://ns.adobe.com/hdr-gain-map/1.0/": GAIN_MAP,
    "http://ns.apple.com/HDRGainMap/1.0/": GAIN_MAP,
    "http://ns.google.com/photos/1.0/depthmap/": "depth map",
    "http://ns.google.com/photos/1.0/image/": _PICTURE,
    "http://ns.google.com/photos/1.0/container/": _PICTURE_LIST,
    "http://ns.google.com/photos/dd/1.0/container/": _PICTURE_LIST,
}
_PROVENANCE = ("http://purl.org/dc/terms/", "provenance")

#: The properties that label an edit; that of the tool is XMP's form of EXIF's software (part 3).
_SOURCE_TYPE = ("http://iptc.org/std/Iptc4xmpExt/2008-02-29/", "DigitalSourceType")
_CREATOR_TOOL = (_XMP, "CreatorTool")
_PREFIXES = {_SOURCE_TYPE[0]: "Iptc4xmpExt", _XMP: "xmp"}
_SOURCE_TYPES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
_GENERATED, _ENHANCED = "compositeWithTrainedAlgorithmicMedia", "algorithmicallyEnhanced"

#: Real packets have at most some thousand elements and attributes.
_MAX_NODES = 100_000

_EMPTY = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
    f'<rdf:RDF xmlns:rdf="{_RDF}"/></x:xmpmeta>'
    '<?xpacket end="w"?>'
)


def refresh_xmp(xmp: bytes, policy: StaleDataPolicy, *, label: bool = True) -> bytes:
    """Refresh an XMP packet of any format; a new one is created if the edit is to be labelled.

    Returns the same object if nothing changed; raises RowError ``image.stale_preview`` if the
    policy is to refuse.

    Args:
        xmp: the packet.
        policy: the policy for the file.
        label: whether to label the edit in this packet if the policy labels edits.
    """
    labels = policy.labels_edit and label
    if not xmp and not labels:
        return xmp
    try:
        head, document, tail = _parse(xmp or _EMPTY.encode())
        before = _serialised(document)
    except (ValueError, RecursionError):  # real packets have some ten levels
        if labels:
            policy.note(UNLABELLED)
        return b"" if policy.must_drop(xmp, "XMP that cannot be read") else xmp
    for node in _nodes(document):
        if what := _stale(node):
            policy.note_dropped(what)
            _remove(node)
    if labels:
        _label(document, policy)
    after = _serialised(document)
    if after == before:
        return xmp
    packet = "\n".join(filter(None, (head + after, tail)))
    return packet.encode(_encoding(xmp), "surrogateescape")


def _parse(packet: bytes) -> tuple[str, Document, str]:
    """Parse a packet in UTF-8 or UTF-16.

    Returns:
        The text before the document, the document, and the text after it: padding, or damage.

    Raises:
        ValueError: it is not well-formed XML, has too many nodes, or has a DTD, whose entities
            could expand without bound.
    """
    text = packet.decode(_encoding(packet), "surrogateescape")
    start, last_tag = max(text.find("<"), 0), text.rfind("</")
    end = text.find(">", last_tag) + 1 if last_tag >= 0 else text.rfind(">") + 1
    if "<!DOCTYPE" in text or text.count("<") + text.count("=") > _MAX_NODES:
        raise ValueError("it has a DTD, or too many elements")
    try:
        document = parseString(text[start:end])  # noqa: S318 - DTDs are rejected above
    except ExpatError as error:
        raise ValueError(f"not XML: {error}") from None
    return text[:start], document, text[end:].strip()


def _encoding(data: bytes) -> str:
    if data[:2] in (b"\xfe\xff", b"\0<"):
        return "utf-16-be"
    return "utf-16-le" if data[:2] in (b"\xff\xfe", b"<\0") else "utf-8"


def _nodes(document: Document) -> Iterator[Element | Attr]:
    """Yield all elements and attributes, but none below an element removed when it was yielded."""
    stack: list[Node] = [document]
    while stack:
        node = stack.pop()
        if isinstance(node, Element):
            yield node
            if node.parentNode is None:
                continue
            yield from list(node.attributes.values())
        stack += reversed(node.childNodes)


def _serialised(node: Node) -> str:
    """Serialise a node; minidom itself loses line breaks in attributes, and fails on empty ones."""
    if isinstance(node, Document):
        return "\n".join(map(_serialised, node.childNodes))
    if not isinstance(node, Element):
        return node.toxml().replace("\r", "&#13;")
    attributes = "".join(
        f" {name}={quoteattr(text or '')}" for name, text in node.attributes.items()
    )
    inner = "".join(map(_serialised, node.childNodes))
    start = f"<{node.tagName}{attributes}"
    return f"{start}>{inner}</{node.tagName}>" if inner else f"{start}/>"


def _name_of(node: Element | Attr) -> tuple[str, str]:
    """Namespace and local name."""
    return node.namespaceURI or "", node.localName or ""


def _text(node: Element | Attr) -> str:
    """A property's value; of an element, its text or its resource."""
    if isinstance(node, Attr):
        return node.value or ""
    text = "".join(child.data for child in node.childNodes if isinstance(child, Text))
    return node.getAttributeNS(_RDF, "resource") or text


def _remove(node: Element | Attr) -> None:
    if isinstance(node, Attr):
        if node.ownerElement:
            node.ownerElement.removeAttributeNode(node)
    elif node.parentNode:
        node.parentNode.removeChild(node)


def _stale(node: Element | Attr) -> str:
    """Name the dropped data that a property contains or describes; empty if it is kept."""
    uri, local = _name_of(node)
    if uri in _ABOUT:
        return _ABOUT[uri]
    if (uri, local) == (_XMP, "Thumbnails"):
        return "XMP thumbnail"
    if uri == _CAMERA and local.startswith(("MotionPhoto", "MicroVideo")):
        return "" if _text(node) == "0" else "motion photo video"
    if (uri, local) == _PROVENANCE and re.match(r"\s*(self#|[a-z]+://)", _text(node)):
        return C2PA_MANIFEST
    return _PICTURE if contains_picture(_text(node).encode("utf-8", "replace")) else ""


def _label(document: Document, policy: StaleDataPolicy) -> None:
    """Label the edit in a description of its own; a label of a generated picture is kept."""
    parent = next(iter(document.getElementsByTagNameNS(_RDF, "RDF")), None)
    if parent is None:
        policy.note(UNLABELLED)
        return
    kind = _GENERATED if policy.edit.generative else _ENHANCED
    labels = ""
    for (uri, local), text in ((_SOURCE_TYPE, _SOURCE_TYPES + kind), (_CREATOR_TOOL, SOFTWARE)):
        old = [node for node in _nodes(document) if _name_of(node) == (uri, local)]
        if any("rainedAlgorithmicMedia" in _text(node) for node in old):
            continue
        for node in old:
            _remove(node)
        prefix = _PREFIXES[uri]
        labels += f' xmlns:{prefix}="{uri}" {prefix}:{local}="{text}"'
    own = f'<rdf:Description xmlns:rdf="{_RDF}" rdf:about=""{labels}/>'
    description = parseString(own).documentElement  # noqa: S318
    assert description
    parent.appendChild(description)
