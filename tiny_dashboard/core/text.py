"""Text in and out: tokens -> what a person reads, "1, 5-9" -> feature numbers.

Tokens are read from their bytes: a piece of a byte-level vocabulary spells bytes in a printable alphabet, one of a
SentencePiece vocabulary has ▁ for a space and `<0xNN>` for a byte, and `decode([id])` shows neither exactly.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Iterable, Sequence
from functools import cache, lru_cache, partial
from itertools import chain, pairwise
from typing import Any, NamedTuple, cast

# The printable alphabet of byte-level BPE (bytes_to_unicode in openai/gpt-2's encoder.py): visible Latin-1 characters
# stand for their own byte, and 256, 257, … for the other bytes in their order.
_VISIBLE = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
_HIDDEN = sorted(set(range(256)) - set(_VISIBLE))
_BYTE_OF = {chr(byte): byte for byte in _VISIBLE} | {chr(256 + n): byte for n, byte in enumerate(_HIDDEN)}
_BYTE_PIECE = re.compile(r"<0x([0-9A-Fa-f]{2})>")

_FEATURES = re.compile(r"([0-9]+)(?:[-–]([0-9]+))?")
_MAX_FEATURE = 2**31 - 1  # features are stored as int32
_MAX_RANGE = 10_000  # what "a-b" may ask for, so that a few typed characters cannot fill the memory


class TokenTexts(NamedTuple):
    """What a person reads of a sequence of tokens.

    Attributes:
        texts: the text of each token, `[seq_len]`; joined they are the exact text. A character split over several
            tokens stands at the one that completes it. Bytes that never become a character stand as U+FFFD at the
            last token that holds them, the same as in `bytes.decode("utf-8", "replace")`.
        chips: position -> hex ("E2 82") of the token's bytes whose character a later token completes, or none.
    """

    texts: list[str]
    chips: dict[int, str]


def token_texts(tokens: Sequence[int] | Sequence[str], tokenizer: Any = None) -> TokenTexts:
    """Read one sequence of tokens. To read many, hold a `TokenReader`: it looks at the tokenizer only once.

    Args:
        tokens: vocabulary ids or token pieces, `[seq_len]`; a list, a numpy array or a tensor.
        tokenizer: a Hugging Face tokenizer, fast or slow. Without one, pieces are read by their own marks.

    Raises:
        TypeError: `tokens` is not one flat sequence of ids or of pieces.
        ValueError: ids without a tokenizer, or an id outside its vocabulary.
    """
    return TokenReader(tokenizer).read(tokens)


class TokenReader:
    """Reads the tokens of one tokenizer, a Hugging Face one, fast or slow; None reads pieces by their own marks."""

    def __init__(self, tokenizer: Any = None) -> None:
        self._tokenizer = tokenizer
        self._literal: set[str] = set()
        if tokenizer is None:
            return
        self._backend = getattr(tokenizer, "backend_tokenizer", None)
        self._vocab = tokenizer.get_vocab() if self._backend is None else {}
        self._scheme = _scheme_of(tokenizer)
        # Each token of the vocabulary is looked up, and read, once.
        self._piece = cache(self._find_piece)
        self._part = cache(partial(self._read_piece, self._scheme))
        # Added tokens are literal, but for those that are not special and stand in the model's own vocabulary too:
        # Gemma adds "▁▁" for a run of spaces.
        in_model = self._backend.model.token_to_id if self._backend is not None else lambda piece: None
        added = tokenizer.added_tokens_decoder.values()
        self._literal = {token.content for token in added if token.special or in_model(token.content) is None}
        # Some tokenizers put a space of their own before a text, and some after each special token: it is not shown.
        special = next(iter(tokenizer.all_special_tokens), "")
        self._prefix = tokenizer.convert_ids_to_tokens(prefix_ids(tokenizer))
        self._adds_space = "".join(tokenizer.tokenize("x")).startswith(("▁", "Ġ"))
        self._adds_space_after_special = "".join(tokenizer.tokenize(special + "x")[1:]).startswith(("▁", "Ġ"))

    def read(self, tokens: Sequence[int] | Sequence[str]) -> TokenTexts:
        """The texts of ids or pieces, `[seq_len]`; arguments and errors are those of `token_texts`.

        Pieces that are not all in the vocabulary come from another tokenizer, or are readable already: their own
        marks tell.
        """
        pieces, known = self._pieces(_as_python(tokens))
        scheme = self._scheme if known else _scheme_by_marks(pieces)
        if known and scheme == "other":
            return TokenTexts(self._joined(pieces), {})
        parts = list(map(self._part if known else partial(self._read_piece, scheme), pieces))
        if self._tokenizer is not None and scheme == self._scheme and self._adds_space:
            self._drop_added_spaces(parts, pieces)
        return _complete_characters(parts)

    def _pieces(self, tokens: Any) -> tuple[list[str], bool]:
        """The pieces of ids or pieces, and whether the tokenizer knows them all."""
        if isinstance(tokens, str) or not isinstance(tokens, Iterable):
            raise TypeError(f"tokens are a list of ids or of pieces, not {show_value(tokens)}")
        tokens = list(tokens)
        if all(isinstance(token, str) for token in tokens):
            return tokens, self._tokenizer is not None and all(map(self._knows, set(tokens)))
        try:
            ids = list(map(operator.index, tokens))
        except TypeError as error:
            other = next((token for token in tokens if not hasattr(token, "__index__")), tokens[0])
            raise TypeError(
                f"tokens are all ids or all pieces, in one flat list; {show_value(other)} is among them"
            ) from error
        if self._tokenizer is None:
            raise ValueError("token ids can be read only with their tokenizer: pass tokenizer=, or give token pieces")
        return list(map(self._piece, ids)), True

    def _find_piece(self, token_id: int) -> str:
        # A fast vocabulary may have holes, so its ids may exceed its size; a slow one makes up a piece for any id.
        size = len(self._tokenizer)
        end = size if self._backend is None else 2**31
        piece = self._tokenizer.convert_ids_to_tokens(token_id) if 0 <= token_id < end else None
        if piece is None:
            raise ValueError(
                f"token id {show_value(token_id)} is outside the tokenizer's vocabulary of {size} tokens: "
                "these ids were made with another tokenizer"
            )
        return piece

    def _read_piece(self, scheme: str, piece: str) -> str | bytes:
        return piece if piece in self._literal else _part(piece, scheme)

    def _knows(self, piece: str) -> bool:
        try:
            return piece in self._vocab if self._backend is None else self._backend.token_to_id(piece) is not None
        except UnicodeEncodeError:  # a lone surrogate
            return False

    def _drop_added_spaces(self, parts: list[str | bytes], pieces: list[str]) -> None:
        starts = {0}
        if self._adds_space_after_special:
            # An unknown character is no token that was split off: the space behind it is the text's.
            unknown = {self._tokenizer.unk_token} - {self._tokenizer.bos_token, self._tokenizer.eos_token}
            starts.update(i for i, piece in enumerate(pieces, 1) if piece in self._literal - unknown)
        elif pieces[: len(self._prefix)] == self._prefix:
            starts.add(len(self._prefix))
        for i in starts:
            if i < len(parts) and pieces[i] not in self._literal and parts[i][:1] in (" ", b" "):
                parts[i] = parts[i][1:]

    def _joined(self, pieces: list[str]) -> list[str]:
        """By the tokenizer's own rule of joining (WordPiece, words, …): what each piece adds to the one before."""
        join = self._tokenizer.convert_tokens_to_string
        alone = {piece: join([piece]) for piece in set(pieces)}
        added = {}
        for before, piece in set(pairwise(pieces)):
            both, start = join([before, piece]), alone[before]
            added[before, piece] = both[len(start) :] if both.startswith(start) else alone[piece]
        return [alone[piece] for piece in pieces[:1]] + [added[pair] for pair in pairwise(pieces)]


def _scheme_of(tokenizer: Any) -> str:
    """How a tokenizer spells text: told by its decoder, or else by what it makes of a space and of é."""
    decoder = getattr(getattr(tokenizer, "backend_tokenizer", None), "decoder", None)
    state = decoder.__getstate__().decode() if decoder is not None else ""
    probe = "".join(tokenizer.tokenize("x é"))
    if '"ByteLevel"' in state or "Ġ" in probe:
        return "byte-level"
    if '"ByteFallback"' in state or "▁" in state + probe:
        return "sentencepiece"
    return "latin-1" if "Ã©" in probe else "other"


def _scheme_by_marks(pieces: list[str]) -> str:
    marked = "".join(piece for piece in pieces if " " not in piece)  # no vocabulary spells a space as a space
    if "Ġ" in marked or "Ċ" in marked:
        return "byte-level"
    return "sentencepiece" if "▁" in marked or any(map(_BYTE_PIECE.fullmatch, pieces)) else "other"


@lru_cache(maxsize=2**16)
def _part(piece: str, scheme: str) -> str | bytes:
    """What a piece stands for: text, or bytes that are not whole characters by themselves."""
    byte = _BYTE_PIECE.fullmatch(piece)
    try:
        if scheme == "byte-level":
            data = bytes([_BYTE_OF[char] for char in piece])
        elif scheme == "latin-1":
            data = piece.encode("latin-1")
        elif scheme == "sentencepiece" and byte:
            data = bytes.fromhex(byte[1])
        else:
            return piece.replace("▁", " ") if scheme == "sentencepiece" else piece
    except (KeyError, UnicodeEncodeError):  # not of this alphabet, so literal
        return piece
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def _complete_characters(parts: list[str | bytes]) -> TokenTexts:
    """Give each character to the token that completes it, and U+FFFD to the last token of bytes that none completes."""
    if bytes not in set(map(type, parts)):
        return TokenTexts(cast(list[str], parts), {})
    texts: list[str] = []
    chips: dict[int, str] = {}
    pending, holder = b"", 0  # the bytes of a character that has begun, and the last token that holds some of them
    for i, part in enumerate(parts):
        if isinstance(part, str):
            if part and pending:
                texts[holder] += "\ufffd"
                pending = b""
            texts.append(part)
            continue
        text, held = "", b""
        data, own = pending + part, len(pending)  # own: where this token's bytes begin in data
        pending = b""
        while data:
            try:
                text, data = text + data.decode(), b""
            except UnicodeDecodeError as error:
                text += data[: error.start].decode()
                held += data[max(error.start, own) : error.end]
                if error.reason == "unexpected end of data":
                    pending, holder = data[error.start :], i
                elif error.end > own:
                    text += "\ufffd"
                else:
                    texts[holder] += "\ufffd"
                data, own = data[error.end :], max(own - error.end, 0)
        texts.append(text)
        if held:
            chips[i] = held.hex(" ").upper()
    if pending:
        texts[holder] += "\ufffd"
    return TokenTexts(texts, chips)


def prefix_ids(tokenizer: Any) -> list[int]:
    """What the tokenizer puts before a text by itself: BOS, as a rule."""
    bare = list(tokenizer("x", add_special_tokens=False)["input_ids"])
    full = list(tokenizer("x")["input_ids"])
    return next((full[:n] for n in range(len(full)) if full[n : n + len(bare)] == bare), [])


def parse_features(value: Any, n_features: int | None = None) -> list[int]:
    """Feature numbers from what a person typed or a program passed, in their order, each once.

    Args:
        value: "1, 2, 3", "1 2", "5-9" (both ends count), "[1, 2]", an int, or a flat list, array or tensor of ints or
            of such texts. Empty or None gives no feature.
        n_features: the dictionary's number of features, where it is known.

    Raises:
        ValueError: something in `value` is not a feature number, or not one of this dictionary.
    """
    value = _as_python(value)
    if isinstance(value, str):
        text = value.strip()
        text = text[1:-1].strip() if text.startswith("[") and text.endswith("]") else text
        text = re.sub(r"([0-9])\s*([-–])\s*(?=[0-9])", r"\1\2", text)
        entries = re.split(r"\s*,\s*|\s+", text) if text else []
        if "" in entries:
            raise ValueError(f"{show_value(value)} has a comma with no number beside it: write it as in 1, 2, 5-9")
    elif isinstance(value, Iterable) and not isinstance(value, bytes | dict):
        entries = list(value)
    else:
        entries = [] if value is None else [value]
    ranges = [_feature_range(_as_python(entry), n_features) for entry in entries]
    if sum(map(len, ranges)) - len(ranges) >= _MAX_RANGE:
        raise ValueError(f"{show_value(value)} asks for too many features: ask for at most {_MAX_RANGE:,} at once")
    return list(dict.fromkeys(chain.from_iterable(ranges)))


def scale_limit(scale: Any, words: Sequence[str]) -> float | None:
    """The number in a scale, None for one of `words`.

    Raises:
        ValueError: it is neither one of them nor a finite number above 0.
    """
    if scale in words:
        return None
    try:
        limit = float("nan") if isinstance(scale, bool) else float(scale)
    except (TypeError, ValueError, OverflowError):
        limit = float("nan")
    if not 0 < limit < float("inf"):
        known = ", ".join(repr(word) if word else "empty" for word in words)
        raise ValueError(f"the scale is {show_value(scale)}; give a number above 0, or one of {known}")
    return limit


def _feature_range(entry: Any, n_features: int | None) -> range:
    typed = _FEATURES.fullmatch(entry.strip()) if isinstance(entry, str) else None
    if typed:
        # Twenty digits are too large already, and int() refuses some thousands of them.
        first, last = (int(digits.lstrip("0")[:20] or "0") for digits in (typed[1], typed[2] or typed[1]))
    elif isinstance(entry, str | bool) or not hasattr(entry, "__index__"):
        raise ValueError(f"{show_value(entry)} is not a feature number: write whole numbers, as in 1, 2, 5-9")
    else:
        first = last = operator.index(entry)
    top = _MAX_FEATURE if n_features is None else n_features - 1
    if not (0 <= first <= top and 0 <= last <= top):
        where = "feature numbers go" if n_features is None else f"this dictionary has {n_features} features,"
        raise ValueError(f"feature {show_value(entry)} does not exist: {where} from 0 to {top}")
    if last < first:
        raise ValueError(f"{show_value(entry)} ends before it begins: write {last}-{first}")
    return range(first, last + 1)


def _as_python(value: Any) -> Any:
    """Arrays and tensors, scalars included, as lists and numbers."""
    return value.tolist() if hasattr(value, "tolist") else value


def first_line(error: BaseException) -> str:
    """What a foreign error says first, for the end of a sentence of ours; its kind where it says nothing."""
    return next(iter(str(error).splitlines()), "")[:200] or type(error).__name__


def show_value(value: Any) -> str:
    """A value inside an error message, never longer than it helps."""
    try:
        text = repr(value)
    except ValueError:  # an int of more digits than Python prints
        text = f"{type(value).__name__} with thousands of digits"
    return text if len(text) <= 60 else text[:57] + "..."
