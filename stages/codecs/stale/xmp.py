"""Settle an XMP packet: thumbnails, depth maps, and what tells of data that are dropped."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping

from PIL import Image

from stages.codecs.stale.jumbf import MANIFEST
from stages.codecs.stale.pictures import as_jpeg, drawn_like, opened
from stages.codecs.stale.policy import SOFTWARE, Settling
from stages.codecs.stale.xmp_packet import RDF, Element, Name, Node, Packet

THUMBNAIL, PICTURE = "XMP thumbnail", "picture inside the XMP"
GAIN_MAP, VIDEO, DEPTH, FURTHER = "gain map", "motion photo video", "depth map", "further picture"

_XMP = "http://ns.adobe.com/xap/1.0/"
_THUMBNAILS = (_XMP, "Thumbnails")
_IMAGE = ("http://ns.adobe.com/xap/1.0/g/img/", "image")
_CAMERA = "http://ns.google.com/photos/1.0/camera/"
_VIDEO_FLAGS = ((_CAMERA, "MotionPhoto"), (_CAMERA, "MicroVideo"))
_CONTAINERS = (
    "http://ns.google.com/photos/1.0/container/",
    "http://ns.google.com/photos/dd/1.0/container/",
)
_DIRECTORIES = [(container, "Directory") for container in _CONTAINERS]
_SEMANTICS = [(container + "item/", "Semantic") for container in _CONTAINERS]
_SEMANTIC_NAMES = {"GainMap": GAIN_MAP, "MotionPhoto": VIDEO, "Depth": DEPTH}
_LI = (RDF, "li")
_DESCRIPTION = (RDF, "Description")
HAS_EXTENDED = ("http://ns.adobe.com/xmp/note/", "HasExtendedXMP")

#: All properties of these namespaces are about one thing.
_ABOUT = {
    "http://ns.adobe.com/hdr-gain-map/1.0/": GAIN_MAP,
    "http://ns.apple.com/HDRGainMap/1.0/": GAIN_MAP,
    "http://ns.google.com/photos/1.0/depthmap/": DEPTH,
    "http://ns.google.com/photos/1.0/image/": PICTURE,
}
_PROVENANCE = ("http://purl.org/dc/terms/", "provenance")

_SOURCE_TYPE = ("http://iptc.org/std/Iptc4xmpExt/2008-02-29/", "DigitalSourceType")
_CREATOR_TOOL = (_XMP, "CreatorTool")
_TIFF_SOFTWARE = ("http://ns.adobe.com/tiff/1.0/", "Software")
#: What the marks of an edit are, with the prefix that each is written with.
MARKS: dict[Name, str] = {
    _SOURCE_TYPE: "Iptc4xmpExt",
    _CREATOR_TOOL: "xmp",  # XMP part 3: the same as EXIF's software
    _TIFF_SOFTWARE: "tiff",
}
_SOURCE_TYPES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
_GENERATED, _ENHANCED = "compositeWithTrainedAlgorithmicMedia", "algorithmicallyEnhanced"

#: A JPEG in base64, in a packet that cannot be parsed, with the line breaks that XML may have.
_BASE64_JPEG = re.compile(rb"/9j/(?:[A-Za-z0-9+/=\s]|&#x?[0-9A-Fa-f]{1,4};){80,}+")

_EMPTY = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
    '<x:xmpmeta xmlns:x="adobe:ns:meta/">\n'
    f' <rdf:RDF xmlns:rdf="{RDF}">\n'
    '  <rdf:Description rdf:about=""/>\n'
    " </rdf:RDF>\n"
    "</x:xmpmeta>\n"
    '<?xpacket end="w"?>'
)


def settle_packet(
    xmp: bytes,
    settling: Settling,
    *,
    mark: bool = True,
    extended: Mapping[str, str] | None = None,
) -> bytes:
    """Settle an XMP packet of any format; an empty one becomes one if the edit is to be marked.

    The same object comes back if nothing changed; raises RowError ``image.stale_preview`` if the
    policy is to refuse.

    Args:
        xmp: the packet.
        settling: the file's state.
        mark: False where another packet is the one to be marked.
        extended: new names of the extended parts that the packet refers to; empty: gone.
    """
    marks = settling.marks and mark
    if not xmp and not marks:
        return xmp
    try:
        packet = Packet(xmp or _EMPTY.encode())
    except ValueError:
        if marks:
            settling.unmarked("XMP")
        return cleared(xmp, settling)
    has_video = any(node.name in _VIDEO_FLAGS and node.text != "0" for node in packet.nodes())
    for node in packet.nodes():
        _settle_node(packet, node, settling, has_video=has_video)
        if node.name == HAS_EXTENDED and extended and node.text in extended:
            _rename(packet, node, extended[node.text])
    _settle_directories(packet, settling)
    if marks:
        _mark(packet, settling)
    return packet.edited()


def _holds_picture(node: Node) -> bool:
    is_leaf = not isinstance(node, Element) or node.is_leaf
    return is_leaf and (node.name == _IMAGE or node.text[:200].lstrip().startswith("/9j/"))


def _picture(text: str) -> Image.Image | None:
    try:
        return opened(base64.b64decode("".join(text.split())))
    except (binascii.Error, ValueError):
        return None


def _settle_node(packet: Packet, node: Node, settling: Settling, *, has_video: bool) -> None:
    about = _stale(node, has_video=has_video)
    if about:
        settling.drop(about)
        packet.remove(node)
    elif node.name == _IMAGE and node.text.strip():
        _settle_thumbnail(packet, node, settling)
    elif _holds_picture(node):
        settling.drop(PICTURE)
        packet.remove(node)


def _stale(node: Node, *, has_video: bool) -> str:
    """What a property is about that the file no longer holds; empty if it may stay."""
    uri, local = node.name
    if uri in _ABOUT:
        return _ABOUT[uri]
    if uri == _CAMERA and local.startswith(("MotionPhoto", "MicroVideo")):
        return VIDEO if has_video else ""
    if node.name == _PROVENANCE and re.match(r"\s*(self#|[a-z]+://)", _text(node)):
        return MANIFEST
    return ""


def _text(node: Node) -> str:
    """A property's value, which an element may have as a resource."""
    if isinstance(node, Element):
        resources = [a.text for a in node.attributes if a.name == (RDF, "resource")]
        return next(iter(resources), node.text)
    return node.text


def _settle_thumbnail(packet: Packet, node: Node, settling: Settling) -> None:
    old = _picture(node.text) if settling.rebuilds(THUMBNAIL) else None
    coded = None
    if old is not None:
        drawn = drawn_like(old, settling.edited)
        coded = as_jpeg(drawn, len(node.text) // 4 * 3)
    if coded is not None:
        packet.replace(node, base64.b64encode(coded).decode())
        settling.rebuilt(THUMBNAIL)
        return
    settling.drop(THUMBNAIL)
    element = node if isinstance(node, Element) else node.owner
    packet.remove(element.inside(_THUMBNAILS) or node)


def _settle_directories(packet: Packet, settling: Settling) -> None:
    """Take the items out of container directories whose data are dropped: all but the picture."""
    left: dict[Element, int] = {}
    stale: dict[Element, str] = {}
    for node in packet.nodes():
        owner = node if isinstance(node, Element) else node.owner
        item, directory = owner.inside(_LI), owner.inside(*_DIRECTORIES)
        if item is None or directory is None or item in stale:
            continue
        if owner is item:
            left[directory] = left.get(directory, 0) + (node is item)
        if node.name in _SEMANTICS and node.text.strip() not in ("", "Primary"):
            stale[item] = node.text.strip()
            left[directory] -= 1
    for item, semantic in stale.items():
        settling.drop(_SEMANTIC_NAMES.get(semantic, FURTHER))
        packet.remove(item)
    for directory in {item.inside(*_DIRECTORIES) for item in stale}:
        if directory and left[directory] <= 1:
            packet.remove(directory)


def _rename(packet: Packet, node: Node, name: str) -> None:
    if name:
        packet.replace(node, name)
    else:
        packet.remove(node)


def _mark(packet: Packet, settling: Settling) -> None:
    """Say what made the picture; what already says that a model made it is left."""
    description = next((e for e in packet.elements if e.name == _DESCRIPTION), None)
    if description is None:
        settling.unmarked("XMP")
        return
    kind = (
        "compositeWithTrainedAlgorithmicMedia" if settling.generative else "algorithmicallyEnhanced"
    )
    texts = {_SOURCE_TYPE: _SOURCE_TYPES + kind, _CREATOR_TOOL: SOFTWARE, _TIFF_SOFTWARE: SOFTWARE}
    for name, text in texts.items():
        old = [node for node in packet.nodes() if node.name == name]
        if any("rainedAlgorithmicMedia" in _text(node) for node in old):
            continue
        for node in old:
            packet.remove(node)
        if old or name != _TIFF_SOFTWARE:
            packet.add(description, MARKS[name], name, text)


def cleared(xmp: bytes, settling: Settling) -> bytes:
    """A packet that cannot be parsed, with the pictures in it blotted out."""
    blank = _BASE64_JPEG.sub(lambda match: b" " * len(match[0]), xmp)
    if blank == xmp:
        return xmp
    settling.drop(PICTURE)
    return blank
