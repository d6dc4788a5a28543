"""Text of strangers, names of classes and files for instance, as it can be shown."""

import unicodedata

# Of the formatting characters, those that scripts and emoji are written with.
_JOINERS = "\u200c\u200d"
_OBEYED = ("Cc", "Cf", "Cs", "Zl", "Zp")


def shown(text: str) -> str:
    r"""Return ``text`` in one line: what a terminal would obey, and what is no UTF-8, as escapes such as ``\x1b``."""
    return "".join(_escaped(letter) for letter in text)


def one_line(error: Exception, most: int) -> str:
    """Return what an error says in one line of at most ``most`` letters, or its kind where it says nothing."""
    return " ".join(str(error).split())[:most].rstrip(".") or type(error).__name__


def shown_lines(text: str) -> str:
    """Return ``text`` as `shown` does, but in its own lines."""
    return "\n".join(map(shown, text.split("\n")))


def _escaped(letter: str) -> str:
    if letter in _JOINERS or unicodedata.category(letter) not in _OBEYED:
        return letter
    return letter.encode("unicode_escape").decode("ascii")
