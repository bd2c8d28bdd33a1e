"""HTML as a small tree, read by the standard library's parser: what the tests look at."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"meta", "img", "br", "input", "link", "hr"}


@dataclass
class Node:
    tag: str
    attrs: dict[str, str] = field(default_factory=dict)
    children: list[Node | str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The text content, scripts and style sheets left out."""
        if self.tag in ("script", "style", "title"):
            return ""
        return "".join(c if isinstance(c, str) else c.text for c in self.children)

    @property
    def raw(self) -> str:
        return "".join(c for c in self.children if isinstance(c, str))

    @property
    def classes(self) -> list[str]:
        return self.attrs.get("class", "").split()

    def walk(self):
        for child in self.children:
            if isinstance(child, Node):
                yield child
                yield from child.walk()

    def all(self, tag: str | None = None, cls: str | None = None) -> list[Node]:
        return [n for n in self.walk() if (tag is None or n.tag == tag) and (cls is None or cls in n.classes)]

    def one(self, tag: str | None = None, cls: str | None = None) -> Node:
        (found,) = self.all(tag, cls)
        return found


class _Builder(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.root = Node("root")
        self.stack = [self.root]

    def handle_starttag(self, tag, attrs):
        node = Node(tag, {name: value or "" for name, value in attrs})
        assert len(node.attrs) == len(attrs), f"an attribute stands twice: {attrs}"
        self.stack[-1].children.append(node)
        if tag not in VOID:
            self.stack.append(node)

    def handle_endtag(self, tag):
        assert self.stack[-1].tag == tag, f"</{tag}> closes <{self.stack[-1].tag}>"
        self.stack.pop()

    def handle_data(self, data):
        self.stack[-1].children.append(data)

    def handle_comment(self, data):
        assert not data, f"a comment that holds something: {data!r}"

    def unknown_decl(self, data):
        raise AssertionError(f"a declaration: {data!r}")

    handle_pi = unknown_decl


def parse(html: str) -> Node:
    """The tree of a fragment or a page; every element must be closed in order, and comments are empty."""
    builder = _Builder()
    builder.feed(html)
    builder.close()
    assert builder.stack == [builder.root], f"not closed: {[n.tag for n in builder.stack[1:]]}"
    return builder.root


def data_of(tree: Node) -> dict:
    """The JSON that travels beside a fragment, with the values that are the tokens' titles."""
    (script,) = [n for n in tree.all("script") if n.attrs.get("type") == "application/json"]
    data = json.loads(script.raw)
    for passage, own in zip(passages_of(tree), data["passages"], strict=False):
        lit = [
            (at, float(t.attrs["title"]))
            for at, t in enumerate(tokens_of(passage))
            if "style" in t.attrs and None in own["v"]
        ]
        titles = [[at for at, _ in lit], [value for _, value in lit]]
        own["v"] = [titles if told is None else told for told in own["v"]]
    return data


def passages_of(tree: Node) -> list[Node]:
    return tree.all("div", "td-p")


def tokens_of(node: Node) -> list[Node]:
    return node.all("i")


def ids_of(passage: dict) -> list[int]:
    """The token ids of a passage's data."""
    if not passage["id"].startswith("="):
        return [int(i) for i in passage["id"].split()]
    n_ids, n_digits, packed = int(passage["id"][1]), int(passage["id"][2]), passage["id"][3:]
    digits = [chr(c) for c in range(33, 127) if chr(c) not in '"<\\']
    found = []
    for at in range(0, len(packed), n_digits):
        number = sum(digits.index(c) * 91**place for place, c in enumerate(packed[at : at + n_digits]))
        base = int(91 ** (n_digits / n_ids))
        found += [number // base**place % base for place in range(n_ids)]
    return found
