"""XML as signed documents of vendors use it: read strictly, and written in canonical form.

Read is XML 1.0 in UTF-8 with namespaces and nothing else: no document type, and so no entities; no
processing instructions, comments, CDATA sections or ``xml:`` attributes. For such documents
Canonical XML 1.0 and 1.1 without comments give the same bytes, which :func:`canonical` writes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NoReturn
from xml.parsers import expat

from teeverify.encoding.strict import utf8_text
from teeverify.errors import MalformedEvidence, TeeVerifyError

__all__ = ["XmlAttribute", "XmlElement", "canonical", "parse_xml"]

MAX_XML_BYTES = 512 * 1024
MAX_XML_DEPTH = 12
MAX_XML_ELEMENTS = 4096
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*(?::[A-Za-z_][A-Za-z0-9_.-]*)?")
_RESERVED = ("http://www.w3.org/XML/1998/namespace", "http://www.w3.org/2000/xmlns/")
# Canonical XML 1.1 section 2.3, of text nodes and of attribute nodes.
_TEXT_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "\r": "&#xD;"})
_VALUE_ESCAPES = str.maketrans(
    {"&": "&amp;", "<": "&lt;", '"': "&quot;", "\t": "&#x9;", "\n": "&#xA;", "\r": "&#xD;"}
)


@dataclass(frozen=True, slots=True)
class XmlAttribute:
    """One attribute.

    Attributes:
        uri: Its namespace; empty where it has no prefix.
        local: Its name without the prefix.
        name: Its name as written.
        value: Its value.
    """

    uri: str
    local: str
    name: str
    value: str


@dataclass(slots=True, eq=False)
class XmlElement:
    """One element; compared by identity.

    Attributes:
        uri: Its namespace.
        local: Its name without the prefix.
        name: Its name as written.
        attributes: Its attributes in canonical order; declarations of namespaces are none.
        scope: The namespaces in scope, by prefix.
        outer: Those in scope around it.
        children: Elements and texts, in order.
    """

    uri: str
    local: str
    name: str
    attributes: tuple[XmlAttribute, ...]
    scope: Mapping[str, str]
    outer: Mapping[str, str]
    children: list[XmlElement | str]

    @property
    def elements(self) -> tuple[XmlElement, ...]:
        """The child elements."""
        return tuple(child for child in self.children if isinstance(child, XmlElement))

    @property
    def text(self) -> str:
        """The texts directly inside it, joined."""
        return "".join(child for child in self.children if isinstance(child, str))

    def walk(self) -> Iterator[XmlElement]:
        """It and all elements inside it."""
        yield self
        for child in self.elements:
            yield from child.walk()


def parse_xml(raw: bytes, *, field: str, id: str) -> XmlElement:
    """Read a document.

    Args:
        raw: The document, as received.
        field: Dotted name for the error.
        id: Check id for the error.

    Returns:
        The document element.

    Raises:
        MalformedEvidence: Too large, too deep, too many elements, not UTF-8, not well-formed, or
            anything that is not read here.
    """
    if len(raw) > MAX_XML_BYTES:
        raise MalformedEvidence(
            f"{field}: too large", id=id, field=field, need=f"at most {MAX_XML_BYTES}",
            have=len(raw),
        )  # fmt: skip
    utf8_text(raw, field=field, id=id)
    builder = _Builder(field, id)
    try:
        builder.parser.Parse(raw, True)  # noqa: FBT003 -- the C function takes no keywords
    except expat.ExpatError as error:
        raise MalformedEvidence(
            f"{field}: not well-formed XML",
            id=id,
            field=field,
            offset=builder.parser.ErrorByteIndex,
            got=expat.ErrorString(error.code),
        ) from None
    except TeeVerifyError:
        raise
    except (ValueError, RuntimeError):
        raise MalformedEvidence(f"{field}: not XML", id=id, field=field) from None
    return builder.root()


class _Builder:
    """Builds the tree out of what the parser reports, and refuses the rest."""

    def __init__(self, field: str, id: str) -> None:
        self._field = field
        self._id = id
        self._open: list[XmlElement] = []
        self._root: XmlElement | None = None
        self._count = 0
        # The given encoding overrides what a declaration says: it was looked at already.
        parser = self.parser = expat.ParserCreate("UTF-8")
        parser.buffer_text = True
        parser.ordered_attributes = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        parser.XmlDeclHandler = self._declaration
        parser.StartDoctypeDeclHandler = lambda *_: self._refuse("a document type")
        parser.EntityDeclHandler = lambda *_: self._refuse("an entity")
        parser.ExternalEntityRefHandler = lambda *_: self._refuse("an external entity")
        parser.SkippedEntityHandler = lambda *_: self._refuse("an entity")
        parser.ProcessingInstructionHandler = lambda *_: self._refuse("a processing instruction")
        parser.CommentHandler = lambda *_: self._refuse("a comment")
        parser.StartCdataSectionHandler = lambda *_: self._refuse("a CDATA section")

    def root(self) -> XmlElement:
        """The document element: the parser refuses a text without one."""
        if self._root is None:
            self._refuse("no element")
        return self._root

    def _refuse(self, what: str, got: str | None = None) -> NoReturn:
        raise MalformedEvidence(
            f"{self._field}: {what}, which is not read here",
            id=self._id,
            field=self._field,
            offset=self.parser.CurrentByteIndex,
            got=None if got is None else ascii(got)[:80],
        )

    def _declaration(self, version: str, encoding: str | None, _standalone: int) -> None:
        if version != "1.0" or (encoding or "UTF-8").upper() != "UTF-8":
            self._refuse("another version or encoding", f"{version} {encoding}")

    def _characters(self, text: str) -> None:
        if self._open:
            self._open[-1].children.append(text)

    def _start(self, name: str, pairs: list[str]) -> None:
        self._count += 1
        if self._count > MAX_XML_ELEMENTS or len(self._open) >= MAX_XML_DEPTH:
            self._refuse("too many elements, or nested too deep")
        outer = self._open[-1].scope if self._open else {}
        given = list(zip(pairs[::2], pairs[1::2], strict=True))
        declared = dict(self._declared(given))
        scope = {**outer, **declared} if declared else outer
        uri, local = self._expanded(name, scope, default=scope.get("", ""))
        element = XmlElement(
            uri, local, name, self._attributes(given, scope), scope, outer, children=[]
        )
        if self._open:
            self._open[-1].children.append(element)
        else:
            self._root = element
        self._open.append(element)

    def _end(self, _name: str) -> None:
        self._open.pop()

    def _declared(self, given: list[tuple[str, str]]) -> Iterator[tuple[str, str]]:
        """The namespaces that an element declares (Namespaces in XML 1.0 sections 2 and 3)."""
        for name, uri in given:
            head, colon, prefix = name.partition(":")
            if head != "xmlns":
                continue
            # Canonical XML 1.1 section 2.1: a relative one has no canonical form.
            relative = ":" not in uri and bool(uri or colon)
            if (
                relative
                or uri in _RESERVED
                or prefix in ("xml", "xmlns")
                or bool(colon) != bool(prefix)
            ):
                self._refuse("such a declaration of a namespace", f"{name}={uri}")
            yield prefix, uri

    def _attributes(
        self, given: list[tuple[str, str]], scope: Mapping[str, str]
    ) -> tuple[XmlAttribute, ...]:
        """The attributes, in the order of Canonical XML 1.1 section 2.2."""
        found = [
            XmlAttribute(*self._expanded(name, scope, default=""), name, value)
            for name, value in given
            if name != "xmlns" and not name.startswith("xmlns:")
        ]
        if len({(item.uri, item.local) for item in found}) != len(found):
            self._refuse("the same attribute twice")
        return tuple(sorted(found, key=lambda item: (item.uri, item.local)))

    def _expanded(self, name: str, scope: Mapping[str, str], *, default: str) -> tuple[str, str]:
        """Namespace and local part of a name."""
        if not _NAME.fullmatch(name):
            self._refuse("such a name", name)
        prefix, colon, local = name.partition(":")
        if not colon:
            return default, name
        if prefix not in scope:  # also of "xml", so that nothing is inherited from outside
            self._refuse("a prefix without a namespace", name)
        return scope[prefix], local


def canonical(apex: XmlElement, *, without: XmlElement | None = None) -> bytes:
    """Write an element in canonical form, inclusive and without comments (Canonical XML 1.1).

    Args:
        apex: The element; the namespaces in scope around it are written on it.
        without: An element inside it that is left out with all that is in it.
    """
    parts: list[str] = []
    _write(apex, {}, without, parts)
    return "".join(parts).encode("utf-8")


def _write(
    element: XmlElement,
    written: Mapping[str, str],
    without: XmlElement | None,
    parts: list[str],
) -> None:
    """Write one element; ``written`` are the namespaces in scope of what is around it."""
    parts.append(f"<{element.name}")
    if element.scope is not written:
        for prefix, uri in sorted(element.scope.items()):
            if written.get(prefix, "") != uri:
                name = f"xmlns:{prefix}" if prefix else "xmlns"
                parts.append(f' {name}="{uri.translate(_VALUE_ESCAPES)}"')
    parts.extend(
        f' {item.name}="{item.value.translate(_VALUE_ESCAPES)}"' for item in element.attributes
    )
    parts.append(">")
    for child in element.children:
        if isinstance(child, str):
            parts.append(child.translate(_TEXT_ESCAPES))
        elif child is not without:
            _write(child, element.scope, without, parts)
    parts.append(f"</{element.name}>")
