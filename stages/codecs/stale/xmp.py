"""Refresh an XMP packet: thumbnails, depth maps, and references to dropped data.

A packet that changes is serialised again, without padding; others are kept byte for byte.
"""

from __future__ import annotations

import base64
import re
from xml.dom.minidom import Attr, Document, Element, Node, Text, parseString
from xml.parsers.expat import ExpatError
from xml.sax.saxutils import quoteattr

from PIL import Image

from stages.codecs.stale.pictures import as_jpeg, drawn_like, open_jpeg
from stages.codecs.stale.policy import MANIFEST, SOFTWARE, StaleDataPolicy

THUMBNAIL, PICTURE = "XMP thumbnail", "picture inside the XMP"
GAIN_MAP, VIDEO, DEPTH = "gain map", "motion photo video", "depth map"
_PICTURE_LIST = "list of further pictures"

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_XMLNS = "http://www.w3.org/2000/xmlns/"
_XMP = "http://ns.adobe.com/xap/1.0/"
_THUMBNAILS = (_XMP, "Thumbnails")
_IMAGE = ("http://ns.adobe.com/xap/1.0/g/img/", "image")
_CAMERA = "http://ns.google.com/photos/1.0/camera/"
_VIDEO_FLAGS = ((_CAMERA, "MotionPhoto"), (_CAMERA, "MicroVideo"))
HAS_EXTENDED = ("http://ns.adobe.com/xmp/note/", "HasExtendedXMP")

#: All properties of these namespaces describe the same kind of dropped data.
_ABOUT = {
    "http://ns.adobe.com/hdr-gain-map/1.0/": GAIN_MAP,
    "http://ns.apple.com/HDRGainMap/1.0/": GAIN_MAP,
    "http://ns.google.com/photos/1.0/depthmap/": DEPTH,
    "http://ns.google.com/photos/1.0/image/": PICTURE,
    "http://ns.google.com/photos/1.0/container/": _PICTURE_LIST,
    "http://ns.google.com/photos/dd/1.0/container/": _PICTURE_LIST,
}
_PROVENANCE = ("http://purl.org/dc/terms/", "provenance")

_SOURCE_TYPE = ("http://iptc.org/std/Iptc4xmpExt/2008-02-29/", "DigitalSourceType")
_CREATOR_TOOL = (_XMP, "CreatorTool")
_TIFF_SOFTWARE = ("http://ns.adobe.com/tiff/1.0/", "Software")
#: The properties that label an edit, and their usual prefixes.
_LABELS = {
    _SOURCE_TYPE: "Iptc4xmpExt",
    _CREATOR_TOOL: "xmp",  # XMP part 3: the same as EXIF's software
    _TIFF_SOFTWARE: "tiff",
}
_SOURCE_TYPES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
_GENERATED, _ENHANCED = "compositeWithTrainedAlgorithmicMedia", "algorithmicallyEnhanced"

#: Real packets have some ten levels, and at most some thousand elements and attributes.
_MAX_DEPTH, _MAX_NODES = 100, 100_000

_EMPTY = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
    f'<rdf:RDF xmlns:rdf="{RDF}"><rdf:Description rdf:about=""/></rdf:RDF></x:xmpmeta>'
    '<?xpacket end="w"?>'
)


def refresh_xmp(
    xmp: bytes,
    policy: StaleDataPolicy,
    *,
    label: bool = True,
    drops_extended: bool = False,
) -> bytes:
    """Refresh an XMP packet of any format; a new one is created if the edit is to be labelled.

    Returns the same object if nothing changed; raises RowError ``image.stale_preview`` if the
    policy is to refuse.

    Args:
        xmp: the packet.
        policy: the policy for the file.
        label: whether to label the edit in this packet if the policy labels edits.
        drops_extended: whether extended packets are dropped; references to them go too.
    """
    labels = policy.labels_edit and label
    if not xmp and not labels:
        return xmp
    try:
        head, document, tail = parse(xmp or _EMPTY.encode())
    except ValueError:
        if labels:
            policy.unlabelled("XMP")
        return b"" if policy.drops(xmp, "XMP that cannot be read") else xmp
    before = _serialised(document)
    found = nodes(document)
    has_video = any(name_of(node) in _VIDEO_FLAGS and _text(node) != "0" for node in found)
    for node in found:
        _refresh_node(node, policy, has_video=has_video)
        if drops_extended and name_of(node) == HAS_EXTENDED:
            _remove(node)
    if labels:
        _label(document, policy)
    after = _serialised(document)
    if after == before:
        return xmp
    packet = "\n".join(filter(None, (head + after, tail)))
    return packet.encode(_encoding(xmp), "surrogateescape")


def parse(packet: bytes) -> tuple[str, Document, str]:
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
    nodes(document)  # raises if they are nested too deep
    return text[:start], document, text[end:].strip()


def _encoding(data: bytes) -> str:
    if data[:2] in (b"\xfe\xff", b"\0<"):
        return "utf-16-be"
    return "utf-16-le" if data[:2] in (b"\xff\xfe", b"<\0") else "utf-8"


def nodes(below: Document | Element) -> list[Element | Attr]:
    """All elements and attributes; raises ValueError if they are nested too deep."""
    found: list[Element | Attr] = []
    stack: list[tuple[Node, int]] = [(below, 0)]
    while stack:
        node, depth = stack.pop()
        if depth > _MAX_DEPTH:
            raise ValueError("its elements are nested too deep")
        if isinstance(node, Element):
            found += [node, *node.attributes.values()]
        stack += [(child, depth + 1) for child in reversed(node.childNodes)]
    return found


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


def name_of(node: Element | Attr) -> tuple[str, str]:
    """Namespace and local name."""
    return node.namespaceURI or "", node.localName or ""


def _text(node: Element | Attr) -> str:
    """A property's value; of an element, its text or its resource."""
    if isinstance(node, Attr):
        return node.value or ""
    text = "".join(child.data for child in node.childNodes if isinstance(child, Text))
    return node.getAttributeNS(RDF, "resource") or text


def _inside(node: Element | Attr, name: tuple[str, str]) -> Element | None:
    """The nearest enclosing element of that name, the node itself included."""
    here: Node | None = node.ownerElement if isinstance(node, Attr) else node
    while isinstance(here, Element) and name_of(here) != name:
        here = here.parentNode
    return here if isinstance(here, Element) else None


def _remove(node: Element | Attr) -> None:
    """Remove a node, unless it is removed already."""
    if isinstance(node, Attr):
        if node.ownerElement:
            node.ownerElement.removeAttributeNode(node)
    elif node.parentNode:
        node.parentNode.removeChild(node)


def _refresh_node(node: Element | Attr, policy: StaleDataPolicy, *, has_video: bool) -> None:
    text = _text(node)
    is_leaf = isinstance(node, Attr) or not any(isinstance(c, Element) for c in node.childNodes)
    if about := _stale(node, has_video=has_video):
        policy.drop(about)
        _remove(node)
    elif name_of(node) == _IMAGE and text.strip():
        _refresh_thumbnail(node, text, policy)
    elif is_leaf and text[:200].lstrip().startswith("/9j/"):
        policy.drop(PICTURE)
        _remove(node)


def _stale(node: Element | Attr, *, has_video: bool) -> str:
    """Name the dropped data that a property describes; empty if it is kept."""
    uri, local = name_of(node)
    if uri in _ABOUT:
        return _ABOUT[uri]
    if uri == _CAMERA and local.startswith(("MotionPhoto", "MicroVideo")):
        return VIDEO if has_video else ""
    if (uri, local) == _PROVENANCE and re.match(r"\s*(self#|[a-z]+://)", _text(node)):
        return MANIFEST
    return ""


def _refresh_thumbnail(node: Element | Attr, text: str, policy: StaleDataPolicy) -> None:
    old = _picture(text) if policy.should_rebuild(THUMBNAIL) else None
    drawn = drawn_like(old, policy.edited) if old else None
    coded = as_jpeg(drawn, len(text) // 4 * 3) if drawn else None
    if coded is not None:
        new = base64.b64encode(coded).decode()
        if isinstance(node, Attr):
            node.value = new
        else:
            node.childNodes.clear()
            node.appendChild(Document().createTextNode(new))
        policy.note(f"{THUMBNAIL} rebuilt")
        return
    policy.drop(THUMBNAIL)
    _remove(_inside(node, _THUMBNAILS) or node)


def _picture(text: str) -> Image.Image | None:
    try:
        return open_jpeg(base64.b64decode(text))
    except ValueError:
        return None


def _label(document: Document, policy: StaleDataPolicy) -> None:
    """Label the edit; an existing label of a generated picture is kept."""
    description = next(iter(document.getElementsByTagNameNS(RDF, "Description")), None)
    if description is None:
        policy.unlabelled("XMP")
        return
    kind = _GENERATED if policy.generative else _ENHANCED
    texts = {_SOURCE_TYPE: _SOURCE_TYPES + kind, _CREATOR_TOOL: SOFTWARE, _TIFF_SOFTWARE: SOFTWARE}
    for name, text in texts.items():
        old = [node for node in nodes(document) if name_of(node) == name]
        if any("rainedAlgorithmicMedia" in _text(node) for node in old):
            continue
        for node in old:
            _remove(node)
        if old or name != _TIFF_SOFTWARE:
            _add(document, description, name, text)


def _add(document: Document, element: Element, name: tuple[str, str], text: str) -> None:
    """Add an attribute to an element."""
    uri, prefix = name[0], _LABELS[name]
    declared = {_text(node) for node in nodes(document) if name_of(node) == (_XMLNS, prefix)}
    if declared - {uri}:
        prefix += "_"
    element.setAttributeNS(_XMLNS, f"xmlns:{prefix}", uri)
    element.setAttributeNS(uri, f"{prefix}:{name[1]}", text)
