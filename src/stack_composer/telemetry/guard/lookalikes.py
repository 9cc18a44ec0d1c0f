"""Characters that no reader can tell from an ASCII one, for keys and for texts.

Of Unicode's list (Technical Standard 39) those of Greek and Cyrillic, small capitals, and
the punctuation that stands for ASCII's; what NFKD makes plain is not among them. Written
as code points, since the characters themselves could not be told from the others here.
"""

from __future__ import annotations

_LETTERS = """
    A 0391 0410
    a 0251 03b1 0430 1d00
    B 0392 0412
    b 0299 0432
    C 0421
    c 0441 1d04
    d 0501 1d05
    E 0395 0415
    e 03b5 0435 1d07
    g 0261 0262
    H 0397 041d
    h 029c 043d 04bb
    I 0399 0406
    i 0131 026a 03b9 0456
    J 0408
    j 0458 1d0a
    K 039a 041a
    k 03ba 043a 1d0b
    l 029f
    M 039c 041c
    m 043c 1d0d
    N 039d
    n 0274
    O 039f 041e
    o 03bf 043e 0585 1d0f
    P 03a1 0420
    p 03c1 0440 1d18
    q 051b
    r 0280
    S 0405
    s 0455 a731
    T 03a4 0422
    t 03c4 0442 1d1b
    u 03c5 057d 1d1c
    v 03bd 0475 1d20
    w 051d 1d21
    X 03a7 0425
    x 03c7 0445
    Y 03a5 0423
    y 028f 0443
    Z 0396
    z 1d22
"""
_SIGNS = """
    " 201c 201d 2033
    ' 2018 2019 2032
    - 2010 2011 2012 2013 2014 2015
    . 2024 3002
    / 2044 2215
    : ff1a
"""


def _table(rows: str) -> dict[int, str]:
    return {
        int(point, 16): plain
        for plain, *points in map(str.split, rows.strip().splitlines())
        for point in points
    }


LETTERS = _table(_LETTERS)
"""For ``str.translate``: each letter's Latin one."""
LETTERS_AND_SIGNS = LETTERS | _table(_SIGNS)
"""The same, and hyphens, quotes and their like."""
