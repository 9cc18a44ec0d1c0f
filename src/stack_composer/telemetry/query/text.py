"""Make recorded text harmless to a terminal.

A span's name is data from anywhere: an escape sequence in it could recolour, retitle
or rewrite the screen of whoever looks at it, and a right-to-left override could
make one name look like another. So everything that is not plainly printable is
shown as an escape, and a newline can never forge a row.
"""

from __future__ import annotations


def printable(text: str) -> str:
    """Return ``text`` with every unprintable character as a backslash escape."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def printable_json(line: str) -> str:
    r"""Return JSON text with every unprintable character as ``\uXXXX``.

    JSON on one line has such characters only inside strings (a tab between values
    must be gone before), so the text means the same.
    """
    if line.isprintable():
        return line
    return "".join(c if c.isprintable() else _json_escaped(c) for c in line)


def _json_escaped(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))
