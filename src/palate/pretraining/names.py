"""Random category names in many scripts, and nouns for the categories."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

_ONSETS = """
b c d f g h j k l m n p r s t v w z br ch cl cr dr fl fr gl gr kn ph pl pr qu sc sh sk sl sp st str sw th tr tw wh
"""
_VOWELS = "a e i o u a e i o a e y ai au ea ee ei ie oa oo ou ue"
_CODAS = "b d g k l m n p r s t x ck ct ft ld ll lm mp nd ng nk nt rd rk rm rn rt sh sk ss st th ts"
_ENDINGS = """
al ance ary ed ence er ess ful ian ic ing ion ism ist ity ive less ly ment ness or ous ry s tion ure y
"""
ONSETS, VOWELS, CODAS, ENDINGS = (parts.split() for parts in (_ONSETS, _VOWELS, _CODAS, _ENDINGS))
"""Parts of a Latin syllable, and ends of words."""
ACCENTS = str.maketrans("aeiouycns", "áéíöüýçñš")
OTHER_ACCENTS = str.maketrans("aeiouycnsdlz", "àêïôûÿćňşđłż")
ALPHABETS = {
    "greek": ("βγδζθκλμνξπρσφχψ", "αεηιουω"),
    "cyrillic": ("бвгджзклмнпрстфхцчшщ", "аеиоуыэюя"),
    "hebrew": ("בגדהוזחטכלמנסעפצקרשת", "אוי"),
    "arabic": ("بتثجحخدذرزسشصطعفقكلمن", "اوي"),
    "hiragana": ("かきくけこさしすせそたちつてとなにのはひふほまみむもやゆよらりるれろわ", "あいうえおん"),
    "katakana": ("カキクケコサシスセソタチツテトナニノハヒフホマミムモヤユヨラリルレロワ", "アイウエオンー"),
    "devanagari": ("कखगघचछजझटठडढतथदधनपफबभमयरलवशसह", "ािीुूेैोौ"),
}
"""Consonants or their equivalents, and vowels, by script."""
COMMON = (
    "The", "the", "user", "User", "and", "And", "no", "No", "any", "yes", "of", "for", "or", "what", "which", "more",
    "doesn't", "prefer", "this", "does", "1", "5", "10", "0",
)  # fmt: skip
"""Words of questions and answers, which names may contain."""
IDEOGRAPHS, HANGUL = (0x4E00, 0x9FA5), (0xAC00, 0xD7A3)
PLAIN = 0.7
"""Share of words in plain Latin letters."""
FIELDS = (
    "genre", "category", "tag", "topic", "brand", "style", "mood", "artist", "author", "section", "theme",
    "department", "cuisine", "subject", "keyword", "series", "kind of film", "product line", "class", "city",
)  # fmt: skip
"""Nouns for the categories, used half of the time; otherwise a random word."""


def random_catalogue(rng: np.random.Generator, size: int) -> list[str]:
    """Draw different names, some of which share words.

    Args:
        rng: Random number generator.
        size: Number L of names.

    Returns:
        The names; no two differ in case alone, and none has a comma.
    """
    words = [random_word(rng) for _ in range(max(int(size * rng.uniform(0.4, 2.0)), 2))]
    names: dict[str, str] = {}
    while len(names) < size:
        name = _name(rng, words)
        if len(names) and len(name) < 3 and rng.random() < 0.8:
            continue
        names.setdefault(name.casefold(), name)
    return list(names.values())


def similar_catalogue(rng: np.random.Generator, size: int) -> list[str]:
    """Draw different names that are easily confused: one word with numbers, codes, and words of the answer sentences.

    Args:
        rng: Random number generator.
        size: Number L of names.

    Returns:
        The names, as of :func:`random_catalogue`.
    """
    word, kind, digits = random_word(rng), int(rng.integers(4)), int(rng.integers(2, 6))
    words = [*(random_word(rng) for _ in range(3)), *(str(rng.choice(COMMON)) for _ in range(3))]
    names: dict[str, str] = {}
    while len(names) < size:
        number = rng.integers(10**digits)
        if kind == 0:
            name = f"{word} {number:0{digits}}" if rng.random() < 0.5 else f"{word} {number % (2 * size)}"
        elif kind == 1:
            name = _code(rng)
        else:
            name = " ".join(words[int(rng.integers(len(words)))] for _ in range(rng.integers(1, kind + 2)))
            name = f"{name} {number}" if len(names) > size // 2 else name
        names.setdefault(name.casefold(), name)
    return list(names.values())


def random_field(rng: np.random.Generator) -> str:
    """Draw a noun for the categories, in the singular."""
    return str(rng.choice(FIELDS)) if rng.random() < 0.5 else _latin(rng)


def random_word(rng: np.random.Generator) -> str:
    """Draw a word of letters, of one script."""
    kind = rng.random()
    if kind < PLAIN:
        return _latin(rng)
    if kind < PLAIN + 0.1:
        return _latin(rng).translate(ACCENTS if rng.random() < 0.6 else OTHER_ACCENTS)
    if kind < PLAIN + 0.2:
        first, last = IDEOGRAPHS if rng.random() < 0.7 else HANGUL
        return "".join(chr(one) for one in rng.integers(first, last + 1, rng.integers(1, 4)))
    onsets, vowels = list(ALPHABETS.values())[rng.integers(len(ALPHABETS))]
    return "".join(_one(rng, onsets) + _one(rng, vowels) for _ in range(rng.integers(1, 4)))


def name_texts(rng: np.random.Generator, catalogues: int) -> Iterator[str]:
    """Yield names of random catalogues as they stand in a text, to train a tokenizer on."""
    for _ in range(catalogues):
        yield from (f" {name}" for name in random_catalogue(rng, 20))
        yield f" {random_field(rng)}"


def _name(rng: np.random.Generator, words: Sequence[str]) -> str:
    count = int(rng.choice([1, 2, 3, 4], p=[0.72, 0.22, 0.04, 0.02]))
    chosen = [_decorated(rng, words[int(rng.integers(len(words)))]) for _ in range(count)]
    joint = rng.random()
    if joint < 0.7 or count == 1:
        name = " ".join(chosen)
    else:
        name = str(rng.choice(["-", " & ", "/", " and ", "'s ", "_", ": ", "."])).join(chosen)
    end = rng.random()
    if end < 0.03:
        name += str(rng.choice(["!", "?", "+", "++", "#", ".", "*"]))
    elif end < 0.06:
        name += f" ({_latin(rng)})"
    elif end < 0.12:
        name += f" {rng.integers(0, 2100)}"
    elif end < 0.15:
        name = f"{rng.integers(0, 100)}{rng.choice(['', ' ', '-'])}{name}"
    return name


def _code(rng: np.random.Generator) -> str:
    """Draw a code such as "KX-2041", "0000-1c56-aa" or "b7"."""
    parts = []
    for _ in range(rng.integers(1, 4)):
        letters = "".join(chr(one) for one in rng.integers(ord("A"), ord("Z") + 1, rng.integers(1, 4)))
        number = int(rng.integers(65536))
        parts.append((letters, str(number), f"{number:04x}", f"{number % 100:02}")[rng.integers(4)])
    return str(rng.choice(["-", "-", "", "/", "_", " "])).join(parts)


def _decorated(rng: np.random.Generator, word: str) -> str:
    case = rng.random()
    if case < 0.6:
        return word.capitalize()
    if case < 0.66:
        return word.upper()
    if case < 0.7:
        return f"{rng.integers(1, 100)}{rng.choice(['s', 'D', 'th', ''])}"
    return word


def _latin(rng: np.random.Generator) -> str:
    syllables = int(rng.choice([1, 2, 3, 4], p=[0.38, 0.46, 0.13, 0.03]))
    word = ""
    for at in range(syllables):
        onset = _one(rng, ONSETS) if at or rng.random() < 0.85 else ""
        word += onset + _one(rng, VOWELS)
        if rng.random() < (0.6 if at == syllables - 1 else 0.25):
            word += _one(rng, CODAS)
    return word + _one(rng, ENDINGS) if rng.random() < 0.25 else word


def _one(rng: np.random.Generator, some: Sequence[str]) -> str:
    return some[int(rng.integers(len(some)))]
