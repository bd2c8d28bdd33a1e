"""The text of the demo on a real model: openly licensed prose, manuals and code from Debian packages and Python."""

from __future__ import annotations

import gettext
import gzip
import hashlib
import json
import random
import re
import struct
import sysconfig
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from scripts.demo.build import fetch_docs, page_text

# package: (licence, what is taken of it)
PACKAGES = {
    "wordnet-base": ("WordNet 3.0 licence", "definitions of words, with their examples"),
    "r-cran-janeaustenr": ("public domain, package MIT", "Jane Austen's six novels"),
    "sword-comm-mhcc": ("public domain", "Matthew Henry's commentary on the Bible"),
    "anarchism": ("GPL-2", "An Anarchist FAQ: politics, economy, history"),
    "jargon-text": ("public domain", "the Jargon File"),
    "freeciv-data": ("GPL-2+", "legends of nations and help texts, in en, de, fr, es"),
    "wesnoth-1.16-data": (
        "GPL-2+",
        "people and beasts of a fantasy world, in en, de, fr, es, it",
    ),
    "gnucash-docs": ("GFDL-1.1+ without invariant sections, or GPL-2+", "guide to keeping accounts, in en, de, it, pt"),
    "debian-handbook": ("GPL-2+ or CC-BY-SA-3.0", "handbook, in de, fr, es, it"),
    "sqlite3-doc": ("public domain", "documentation of SQL"),
    "libsqlite3-dev": ("public domain", "a C header"),
    "libjs-underscore": ("Expat", "JavaScript"),
    "libjs-leaflet": ("BSD-2-clause", "JavaScript"),
}
# characters of each group of text
CHARS = {
    "words": 240_000, "novels": 180_000, "bible": 70_000, "politics": 170_000, "jargon": 60_000, "games": 150_000,
    "money": 70_000, "sql": 55_000, "python": 150_000, "javascript": 60_000, "c": 40_000, "html": 25_000,
    "de": 75_000, "fr": 75_000, "es": 75_000, "it": 75_000, "pt": 30_000,
}  # fmt: skip
CODE = ("python", "javascript", "c", "html")
PIECE = 2_400  # characters of one document, about


def pieces(text: str, size: int = PIECE) -> Iterator[str]:
    """Cut a text at the ends of its paragraphs into documents of about so many characters."""
    kept: list[str] = []
    for paragraph in text.split("\n"):
        kept.append(paragraph)
        if sum(map(len, kept)) > size:
            yield "\n".join(kept).strip()
            kept = []
    if kept:
        yield "\n".join(kept).strip()


def glosses(share: Path) -> Iterator[str]:
    """`word: what it means; "an example"`, in a fixed random order, fifteen to a document."""
    lines = []
    for part in ("noun", "verb", "adj", "adv"):
        for line in (share / "wordnet" / f"data.{part}").read_text("utf-8", "replace").splitlines():
            fields, _, gloss = line.partition(" | ")
            if gloss and not re.search(r"offensive|slur|obscene|disparag|vulgar", gloss) and len(gloss) > 40:
                lines.append(f"{fields.split()[4].replace('_', ' ').split('(')[0]}: {gloss.strip()}")
    random.Random(0).shuffle(lines)
    for i in range(0, len(lines), 15):
        yield "\n".join(lines[i : i + 15])


def novels(usr: Path) -> Iterator[str]:
    """The novels of an R data file: zlib after four bytes of length; inside, strings after a mark and their length."""
    data = (usr / "lib/R/site-library/janeaustenr/data/Rdata.rdb").read_bytes()
    while data:
        part = zlib.decompressobj()
        raw = part.decompress(data[4:])
        data = part.unused_data
        lines = []
        for mark in re.finditer(rb"\x00.[\x00\x80]\x09(....)", raw, re.DOTALL):
            size = struct.unpack(">i", mark.group(1))[0]
            if 0 <= size < 300:
                lines.append(raw[mark.end() : mark.end() + size].decode("utf-8", "replace"))
        yield "\n".join(p.replace("\n", " ") for p in "\n".join(lines).split("\n\n"))


def commentary(share: Path) -> Iterator[str]:
    """The blocks of a SWORD module; an index says where each lies."""
    folder = share / "sword/modules/comments/zcom/mhcc"
    for part in ("ot", "nt"):
        data = (folder / f"{part}.bzz").read_bytes()
        for offset, size, _ in struct.iter_unpack("<III", (folder / f"{part}.bzs").read_bytes()):
            text = zlib.decompress(data[offset : offset + size]).decode("utf-8", "replace")
            text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", text))
            yield re.sub(r"(.{400}[^.]*\.) ", r"\1\n", text)


def translated(path: Path) -> Iterator[tuple[str, str]]:
    """(English, translation) of the long messages of a .mo file."""
    with path.open("rb") as file:
        for source, text in gettext.GNUTranslations(file)._catalog.items():  # type: ignore[attr-defined]
            if isinstance(source, str) and isinstance(text, str) and len(text) > 150 and "%" not in source:
                yield source.rpartition("?")[2].rpartition("^")[2].strip(), text.strip()


def documents(usr: Path) -> Iterator[tuple[str, str, str]]:
    """(group, name, text) of everything; a name is the same in all languages, so that it is held out in all."""
    share = usr / "share"
    for i, text in enumerate(glosses(share)):
        yield "words", f"gloss {i}", text
    for group, texts in (("novels", novels(usr)), ("bible", commentary(share))):
        for i, text in enumerate(texts):
            yield from ((group, f"{group} {i} {j // 4}", piece) for j, piece in enumerate(pieces(text)))
    jargon = gzip.decompress((share / "doc/jargon-text/jargon.txt.gz").read_bytes()).decode("utf-8", "replace")
    yield from (("jargon", f"jargon {i}", piece) for i, piece in enumerate(pieces(jargon[60_000:])))
    pages = [("politics", "doc/anarchism/html/sec*.html"), ("money", "doc/gnucash-docs/gnucash-guide-en/*.html")]
    pages += [("sql", "doc/sqlite3/lang_*.html")]
    pages += [(lang, f"doc/gnucash-docs/gnucash-guide-{lang}/*.html") for lang in ("de", "it", "pt")]
    handbook = {"de": "de-DE", "fr": "fr-FR", "es": "es-ES", "it": "it-IT"}
    pages += [(lang, f"doc/debian-handbook/html/{folder}/*.html") for lang, folder in handbook.items()]
    for group, pattern in pages:
        for path in sorted(share.glob(pattern)):
            for i, piece in enumerate(pieces(page_text(path.read_text("utf-8", "replace")))):
                yield group, f"{path.name} {i // 4}", piece
    for name in (
        "locale/{}/LC_MESSAGES/freeciv-nations.mo",
        "games/wesnoth/1.16/locale/{}/LC_MESSAGES/wesnoth-units.mo",
    ):
        for lang in ("de", "fr", "es", "it"):
            for source, text in translated(share / name.format(lang)):
                yield "games", f"message {source}", source
                yield lang, f"message {source}", text
    yield from code(usr)


def code(usr: Path) -> Iterator[tuple[str, str, str]]:
    """(group, name, text) of Python, JavaScript, C and HTML."""
    stdlib = Path(sysconfig.get_paths()["stdlib"])
    files = [("python", path) for path in sorted(stdlib.glob("*.py"))]
    files += [("javascript", usr / "share/javascript/underscore/underscore.js")]
    files += [("javascript", usr / "share/javascript/leaflet/leaflet.js"), ("c", usr / "include/sqlite3.h")]
    files += [("c", path) for path in sorted((Path(sysconfig.get_paths()["include"]) / "cpython").glob("*.h"))]
    files += [("html", path) for path in sorted((usr / "share/doc/gnucash-docs/gnucash-help-en").glob("*.html"))]
    for group, path in files:
        for i, piece in enumerate(pieces(path.read_text("utf-8", "replace"))):
            yield group, f"{path.name} {i // 4}", piece


def build_corpus(work: Path) -> None:
    """Write corpus.json, {"train" | "valid": [[group, text], …]}: held out by name, and no line of prose twice."""
    usr = fetch_docs(work, list(PACKAGES)).parent
    rank = lambda row: hashlib.sha256(repr(row[:2]).encode()).digest()  # noqa: E731
    out: dict[str, list] = {"train": [], "valid": []}
    room, seen = dict(CHARS), set[str]()
    rows = sorted(documents(usr), key=rank)
    often = Counter(line for group, _, text in rows if group not in CODE for line in set(text.split("\n")))
    for group, name, text in rows:
        lines = [line for line in text.split("\n") if (len(line) < 60 or line not in seen) and often[line] < 12]
        text = "\n".join(lines).strip()
        if room[group] <= 0 or len(text) < 150 or text in seen:
            continue
        seen.update((*lines, text))
        room[group] -= len(text)
        out["valid" if hashlib.sha256(name.encode()).digest()[8] < 22 else "train"].append([group, text])
    print({s: f"{len(rows)} documents, {sum(len(t) for _, t in rows):,} characters" for s, rows in out.items()}, room)
    (work / "corpus.json").write_text(json.dumps(out, ensure_ascii=False))
