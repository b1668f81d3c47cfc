"""Which texts are removed: named sets of ``words.toml``, phrases and regular expressions."""

from __future__ import annotations

import difflib
import re
import tomllib
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from importlib import resources
from typing import NamedTuple

#: The entry that matches every text.
ALL = "all"

#: Entries of this form are the phrase behind it, even if it is like the name of a set.
_LITERALLY = "word:"

#: Letters without a decomposition into a base letter and an accent.
_BASE_LETTERS = str.maketrans({"ł": "l", "ø": "o", "đ": "d", "\u0131": "i", "æ": "ae", "œ": "oe"})

#: What recognition confuses, in phrases.
_SLIPS = {char: f"[{group}]" for group in ("o0", "li1|!", "s5") for char in group}

#: Letters of scripts without spaces between words: Thai, Lao, Burmese, Khmer, kana, Chinese.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u30ff\u3400-\u9fff\U00020000-\U0003ffff"

#: Separates the words of a phrase; its ends do not count.
_GAP = re.compile(r"[\s\-\u2010-\u2015]+")

#: A line reads as a phrase of a set, of at least this number of letters, if it is this similar
#: (difflib's ratio) and at most two letters longer or shorter.
_MIN_LETTERS, _SIMILAR, _MORE_LETTERS = 8, 0.88, 2

#: A name of a set that differs by less is taken for a mistyped one.
_MISTYPED = 0.8


class _Rule(NamedTuple):
    """An expression, and what it is compared with.

    Attributes:
        name: the entry that it is of.
        pattern: the expression.
        of_line: whether it must match a whole line.
        as_read: whether it sees the text as recognised, or plain (:func:`_plain`).
        phrases: what a line may be similar to, without spaces: recognition misreads letters.
    """

    name: str
    pattern: re.Pattern[str]
    of_line: bool = False
    as_read: bool = False
    phrases: tuple[str, ...] = ()


class Matcher:
    """A list of entries: names of sets, phrases, ``/regular expressions/``, or ``all``.

    In expressions, ``^`` and ``$`` are the ends of a line.

    Raises:
        ValueError: an entry is empty, like the name of a set but not one, or an invalid expression.
    """

    def __init__(self, entries: Iterable[str]) -> None:
        self._rules = [rule for entry in entries for rule in _rules_of(entry)]

    def find(self, lines: Sequence[str]) -> list[str]:
        """Return for each line the entry that matches it or a text that it is part of, or "".

        Args:
            lines: neighbours, in reading order; phrases can continue from one to the next.
        """
        found = [""] * len(lines)
        forms = {False: [_plain(line) for line in lines], True: list(lines)}
        for rule in self._rules:
            for index in _matching(rule, forms[rule.as_read]):
                found[index] = found[index] or rule.name
        return found


def _matching(rule: _Rule, lines: list[str]) -> Iterator[int]:
    """The indices of the lines that a rule matches."""
    if rule.of_line:
        yield from (index for index, line in enumerate(lines) if rule.pattern.fullmatch(line))
        return
    yield from (index for index, line in enumerate(lines) if _is_similar(line, rule.phrases))
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line) + 1)
    for match in rule.pattern.finditer("\n".join(lines)):
        for index, line in enumerate(lines):
            if match.start() < starts[index] + len(line) and match.end() > starts[index]:
                yield index


def _is_similar(line: str, phrases: Iterable[str]) -> bool:
    """Whether a plain line is one of some phrases, but for a letter or two."""
    letters = _letters(line)
    near = [each for each in phrases if abs(len(each) - len(letters)) <= _MORE_LETTERS]
    return bool(difflib.get_close_matches(letters, near, n=1, cutoff=_SIMILAR))


def _letters(plain: str) -> str:
    return "".join(c for c in plain if c.isalnum())


def _rules_of(entry: str) -> list[_Rule]:
    if entry == ALL:
        return [_Rule(ALL, re.compile(".*", re.DOTALL), of_line=True)]
    if entry in _sets():
        return _sets()[entry]
    if len(entry) > 2 and entry.startswith("/") and entry.endswith("/"):
        try:
            return [
                _Rule(entry, re.compile(entry[1:-1], re.IGNORECASE | re.MULTILINE), as_read=True)
            ]
        except re.error as error:
            raise ValueError(f"{entry} is not a regular expression: {error}") from None
    phrase = entry.removeprefix(_LITERALLY)
    if not _GAP.sub("", _plain(phrase)):
        raise ValueError(f"{entry!r} has no text")
    like = difflib.get_close_matches(entry.lower(), [*_sets(), ALL], n=1, cutoff=_MISTYPED)
    if like and phrase == entry:
        raise ValueError(
            f"{entry!r} is not a set (did you mean {like[0]}?); for the word write "
            f"{_LITERALLY}{entry}"
        )
    return [_Rule(phrase, re.compile(_phrase(phrase)))]


@cache
def _sets() -> dict[str, list[_Rule]]:
    """The rules of each set."""
    table = tomllib.loads(resources.files(__package__).joinpath("words.toml").read_text("utf-8"))
    parts = table.pop("parts")
    return {name: list(_rules_of_set(name, entries, parts)) for name, entries in table.items()}


def _rules_of_set(
    name: str, entries: dict[str, list[str]], parts: dict[str, str]
) -> Iterator[_Rule]:
    for kind, texts in entries.items():
        of_line = kind in ("lines", "line_patterns")
        if kind in ("words", "lines"):
            source = "|".join(map(_phrase, texts))
        else:
            source = "|".join(f"(?:{_filled(text, parts)})" for text in texts)
        if of_line:
            source = rf"[^\w%]*(?:{source})[^\w%]*"
        phrases = map(_letters, map(_plain, texts if kind == "words" else ()))
        long = tuple(phrase for phrase in phrases if len(phrase) >= _MIN_LETTERS)
        yield _Rule(name, re.compile(source), of_line, phrases=long)


def _filled(pattern: str, parts: dict[str, str]) -> str:
    """A pattern with the parts that it names in braces, and any spaces where it has one."""
    pattern = pattern.replace(" ", r"\s*")
    for part, text in parts.items():
        pattern = pattern.replace(f"{{{part}}}", text)
    return pattern


def _phrase(phrase: str) -> str:
    """The expression of a phrase: whole words, any spaces between them, slips of recognition."""
    words = [word for word in _GAP.split(_plain(phrase)) if word]
    source = r"[\W_]*".join("".join(_SLIPS.get(c, re.escape(c)) for c in word) for word in words)
    letter = rf"[^\W{_UNSPACED}]"
    before = f"(?<!{letter})" if re.match(letter, words[0][0]) else ""
    after = f"(?!{letter})" if re.match(letter, words[-1][-1]) else ""
    return before + source + after


def _plain(text: str) -> str:
    """Lower case, without accents, full-width forms as usual ones."""
    folded = unicodedata.normalize("NFKC", text).casefold().translate(_BASE_LETTERS)
    return "".join(c for c in unicodedata.normalize("NFKD", folded) if not unicodedata.combining(c))
