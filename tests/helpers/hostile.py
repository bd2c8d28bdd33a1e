"""Text that tries to break out of a page, and any text at all."""

from __future__ import annotations

import re

from hypothesis import strategies as st

HOSTILE = [
    "<script>window.__pwned=1</script>",
    "<img src=x onerror=window.__pwned=1>",
    "\"'><svg onload=window.__pwned=1>",
    "' onmouseover=window.__pwned=1 x='",
    "{{constructor.constructor('window.__pwned=1')()}}",
    "${window.__pwned=1}",
    "`${window.__pwned=1}`",
    "</style><script>window.__pwned=1</script>",
    "</script><script>window.__pwned=1</script>",
    "<!--",
    "-->",
    "]]>",
    "<![CDATA[",
    "&lt;script&gt;",
    "&#60;b&#62;",
    "&amp;",
    "\ud800",
    "\udfff x",
    "\ud83d\ude00",  # two halves of one character
    "a\x00b",
    "\u202egnp.exe\u202c",
    "\u200f\u2066\u2069",
    "\ufeff",
    "\x1b[31m",
    "\r",
    "\r\n",
    "\t\t",
    "\u2028\u2029",
    "\ufffc",
    "\ufffd",
    "\uffff\ufffe",
    "</i></div></div><i onclick=window.__pwned=1>",
    "javascript:window.__pwned=1",
    "",
]
ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=12) | st.sampled_from(HOSTILE)


def shown(text: str) -> str:
    """What a page can hold of a text: NUL and halves of surrogate pairs become a replacement character."""
    return re.sub("[\x00\ud800-\udfff]", "\ufffd", text)
