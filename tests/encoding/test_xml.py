"""XML: only the plainest is read, and the canonical form is that of other implementations."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teeverify.encoding.xml import MAX_XML_BYTES, XmlElement, canonical, parse_xml
from teeverify.errors import MalformedEvidence


def parse(text: str | bytes) -> XmlElement:
    raw = text.encode() if isinstance(text, str) else text
    return parse_xml(raw, field="doc", id="rim.form")


def attributes(count: int) -> str:
    return " ".join(f'a{number}="{number}"' for number in range(count))


ATTACKS = {
    "doctype": "<!DOCTYPE a><a/>",
    "doctype-with-entities": '<!DOCTYPE a [<!ENTITY x "y">]><a>&x;</a>',
    "billion-laughs": '<!DOCTYPE a [<!ENTITY x "lol"><!ENTITY y "&x;&x;">]><a>&y;</a>',
    "external-entity": '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>',
    "external-subset": '<!DOCTYPE a SYSTEM "http://192.0.2.1/a.dtd"><a/>',
    "parameter-entity": '<!DOCTYPE a [<!ENTITY % x SYSTEM "x">%x;]><a/>',
    "default-attribute": '<!DOCTYPE a [<!ATTLIST a b CDATA "c">]><a/>',
    "undefined-entity": "<a>&x;</a>",
    "processing-instruction": "<a><?php x?></a>",
    "stylesheet": '<?xml-stylesheet href="x"?><a/>',
    "instruction-after-the-end": "<a/><?x y?>",
    "comment": "<a>4<!-- -->2</a>",
    "comment-before": "<!-- --><a/>",
    "cdata": "<a><![CDATA[x]]></a>",
    "xml-1.1": '<?xml version="1.1"?><a/>',
    "another-encoding": '<?xml version="1.0" encoding="ISO-8859-1"?><a/>',
    "utf-16": "<a/>".encode("utf-16"),
    "utf-7": '<?xml version="1.0" encoding="UTF-7"?><a/>',
    "not-utf-8": b"<a>\xff</a>",
    "overlong": b"<a>\xc0\xbc</a>",
    "byte-order-mark": b"\xef\xbb\xbf<a/>",
    "nul": b"<a>\0</a>",
    "control-character": "<a>\x01</a>",
    "control-reference": "<a>&#1;</a>",
    "surrogate-reference": "<a>&#xD800;</a>",
    "empty": "",
    "space": "  ",
    "text": "text",
    "two-roots": "<a/><b/>",
    "text-after-the-end": "<a/>x",
    "unclosed": "<a>",
    "crossed": "<a><b></a></b>",
    "attribute-twice": '<a b="1" b="2"/>',
    "attribute-twice-by-namespace": '<a xmlns:p="u:x" xmlns:q="u:x" p:b="1" q:b="2"/>',
    "declared-twice": '<a xmlns:p="u:x" xmlns:p="u:y"/>',
    "prefix-not-declared": "<p:a/>",
    "prefix-of-an-attribute-not-declared": '<a p:b="1"/>',
    "prefix-undeclared": '<a xmlns:p="u:x"><b xmlns:p=""/></a>',
    "prefix-out-of-scope": '<a><b xmlns:p="u:x"/><p:c/></a>',
    "xml-declared": '<a xmlns:xml="http://www.w3.org/XML/1998/namespace"/>',
    "xmlns-declared": '<a xmlns:xmlns="http://www.w3.org/2000/xmlns/"/>',
    "xmlns-as-default": '<a xmlns="http://www.w3.org/2000/xmlns/"/>',
    "xml-space": '<a xml:space="preserve"/>',
    "xml-base": '<a xml:base="http://192.0.2.1"/>',
    "xml-id": '<a xml:id="x"/>',
    "relative-namespace": '<a xmlns="x"/>',
    "two-colons": '<a xmlns:p="u:x"><p:b:c/></a>',
    "empty-prefix": "<:a/>",
    "empty-local-part": '<p: xmlns:p="u:x"/>',
    "letters-beyond-ascii": "<é/>",
    "too-deep": "<a>" * 13 + "</a>" * 13,
    "too-many": f"<a>{'<b/>' * 4096}</a>",
    "too-large": f"<a>{' ' * MAX_XML_BYTES}</a>",
}


@pytest.mark.parametrize("name", ATTACKS)
def test_refused(name):
    with pytest.raises(MalformedEvidence) as caught:
        parse(ATTACKS[name])
    assert caught.value.id == "rim.form"


def test_what_is_read():
    root = parse(
        '<?xml version="1.0" encoding="utf-8"?>\n<a xmlns="u:x" xmlns:p="u:y" c="&lt;" p:b="2">'
        "<p:d/> &amp; <e xmlns=''>text&#65;</e></a>\n"
    )
    assert (root.uri, root.local, root.name) == ("u:x", "a", "a")
    assert [(one.uri, one.local, one.value) for one in root.attributes] == [
        ("", "c", "<"),
        ("u:y", "b", "2"),
    ]
    first, second = root.elements
    assert (first.uri, first.local) == ("u:y", "d")
    assert (second.uri, second.text, root.text) == ("", "textA", " & ")
    assert [one.local for one in root.walk()] == ["a", "d", "e"]


# --- the canonical form -------------------------------------------------------------------------

DOCUMENTS = [
    "<a/>",
    "<a></a>",
    '<a b="1" a="2"/>',
    '<a xmlns="u:x"><b/><b xmlns=""/><b xmlns="u:x"/></a>',
    '<a xmlns:p="u:x"><p:b xmlns:p="u:x"/><p:b xmlns:p="u:y"/></a>',
    '<a xmlns:q="u:1" xmlns:p="u:2" q:z="1" p:a="2" b="3" xmlns="u:3"/>',
    '<a xmlns:p="u:2" xmlns:q="u:1" p:a="2" q:a="1"/>',
    "<a b='\"&#9;&#10;&#13;&lt;&gt;&amp;\n'>&#13;&gt;&lt;\"'\r\n\t</a>",
    '<a xmlns:unused="u:x"><b><c/></b></a>',
    '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n\n<a>\né€😀</a>\n\n',
    '<a xmlns="u:x"><b xmlns=""><c xmlns=""/><c xmlns="u:x"/></b></a>',
]


def by_lxml(etree, raw: bytes, method: str = "c14n") -> bytes:
    tree = etree.fromstring(raw)
    return etree.tostring(tree, method=method, with_comments=False, exclusive=False)


@pytest.mark.parametrize("text", DOCUMENTS)
def test_canonical_as_lxml(text):
    etree = pytest.importorskip("lxml.etree")
    assert canonical(parse(text)) == by_lxml(etree, text.encode())


NAMES = st.sampled_from(["a", "b", "c-1", "D", "p:a", "p:B", "q:a", "q:z"])
TEXTS = st.text(st.characters(min_codepoint=32, exclude_categories=["Cs", "Cc"]), max_size=6)
URIS = st.sampled_from(["u:x", "u:y", "http://a/b", "u:z?a=b"])


@st.composite
def elements(draw, depth: int = 0) -> str:
    """A random element; both prefixes are always in scope."""
    from xml.sax.saxutils import escape, quoteattr

    name = draw(NAMES)
    declared = draw(st.dictionaries(st.sampled_from(["xmlns:p", "xmlns:q"]), URIS, max_size=2))
    if depth == 0:
        declared = {"xmlns:p": draw(URIS), "xmlns:q": "u:q", **declared}
    if draw(st.booleans()):
        declared["xmlns"] = draw(st.one_of(st.just(""), URIS))
    given = draw(st.dictionaries(st.sampled_from(["a", "b", "p:c", "q:d"]), TEXTS, max_size=4))
    inside = [escape(draw(TEXTS))]
    if depth < 3:
        inside += [draw(elements(depth + 1)) for _ in range(draw(st.integers(0, 2)))]
    text = "".join(f" {n}={quoteattr(v)}" for n, v in {**declared, **given}.items())
    return f"<{name}{text}>{''.join(inside)}</{name}>"


@given(elements())
def test_canonical_as_lxml_of_random_documents(text):
    etree = pytest.importorskip("lxml.etree")
    assert canonical(parse(text)) == by_lxml(etree, text.encode())


def test_a_subtree_carries_the_namespaces_around_it():
    """Of real manifests, tests/nvidia/test_rim_vectors.py compares this with lxml."""
    root = parse('<a xmlns="u:x" xmlns:p="u:y"><p:b xmlns:p="u:z" xmlns:q="u:q"><c/></p:b></a>')
    assert canonical(root.elements[0]) == (
        b'<p:b xmlns="u:x" xmlns:p="u:z" xmlns:q="u:q"><c></c></p:b>'
    )


@given(st.binary(max_size=64))
def test_any_bytes(raw):
    with contextlib.suppress(MalformedEvidence):
        parse(raw)


@given(elements(), st.data())
def test_any_flip_of_a_document(text, data):
    raw = bytearray(text.encode())
    place = data.draw(st.integers(0, len(raw) - 1))
    raw[place] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(MalformedEvidence):
        parse(bytes(raw))


def test_an_element_is_left_out_alone():
    root = parse("<a> <b/> <b/> </a>")
    second = root.elements[1]
    assert canonical(root, without=second) == b"<a> <b></b>  </a>"


@pytest.mark.parametrize("count", [0, 1, 300])
def test_many_attributes(count):
    assert len(parse(f"<a {attributes(count)}/>").attributes) == count
