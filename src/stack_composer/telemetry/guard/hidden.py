"""The signs that a text may read otherwise than it stands; ``views`` reads it then.

``HIDDEN`` joins the gate, which is searched over everything that is recorded, so this
module holds patterns only and imports nothing. Whole words of another alphabet are no
sign, nor are letters with accents: texts of most languages would be searched twice.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

# A byte of base64 that stands for printable ASCII (or a tab or line break) shows in the
# letters: 26 of 64 are possible as first, 28 as second, 32 as third of four.
BASE64_FOUR: Final = (
    rb"(?:[CDI-Za-f][AC-HQS-Xgi-nwyz0-3][ABEFIJMNQRUVYZcdghklopstwx014589][A-Za-z0-9+/_-])"
)
"""Four letters of base64, of the usual or the URL's alphabet, that hold plain text."""

QUOTED: Final = rb"=(?:\r?\n|3D|3A|(?:40|2D|2E|2F|5F)[A-Za-z0-9]|[2-7][0-9A-F]=[2-7][0-9A-F])"
"""Escapes of quoted-printable that no query string has by chance."""

_WORDY: Final = rb"[A-Za-z0-9]"
_TOKEN: Final = rb"[A-Za-z0-9+/=_-]"
# Without the sign of what may follow it: a run of pluses would be read from each of them.
_TOKEN_END: Final = rb"[A-Za-z0-9/=_-]"

HIDDEN: Final = b"|".join(
    (
        rb"%u?[0-9A-Fa-f]{2}",
        rb"\\(?:[uU]\{?[0-9A-Fa-f]{2}|x[0-9A-Fa-f]|[nrtbfv/\"'])",
        rb"&(?:#[0-9xX]|[A-Za-z]{2,8};)",
        QUOTED,
        # From the start of a run on: as ``views`` reads it, and with one state, not four.
        rb"(?:^|[^A-Za-z0-9+/_-])" + BASE64_FOUR + rb"{5}",
        _TOKEN_END + rb"[\"' \t+\\]*\r?\n[ \t>|*#\"']*" + _TOKEN + rb"{4}",
        # What looks like a letter, a hyphen or a space, beside a letter.
        _WORDY + rb"(?:[\xcd-\xd3][\x80-\xbf]|\xe2\x80[\x90-\x95]|\xc2\xa0)",
        rb"[\xcd-\xd3][\x80-\xbf]" + _WORDY,
        # Marks that combine, characters that do not show, letters in other clothes.
        rb"\xcc[\x80-\xbf]|\xcd[\x80-\xaf]|\xc2\xad|\xe2\x80[\x8b-\x8f\xaa-\xae]|\xe2\x81[\xa0-\xaf]",
        rb"\xef\xbb\xbf|\xf3\xa0|\xef[\xbc\xbd][\x80-\xbf]|\xf0\x9d[\x90-\x9f]|\xe2[\x91-\x93]",
        rb"\xf0\x9f[\x84\x85]",
        # Rarer ones, and variants of a character: also in the emoji of harmless texts.
        _WORDY + rb"(?:\xe1(?:[\xaa\xab][\x80-\xbf]|\xa0[\x8b-\x8f]|\xb7[\x80-\xbf]|\x85[\x9f\xa0])"
        rb"|\xe2(?:\x83[\x90-\xbf]|\xa0\x80)|\xe3\x85\xa4|\xef\xb8[\x80-\x8f\xa0-\xaf])",
        # Orders to a terminal, and other characters that have no sight.
        rb"[\x02-\x08\x0e-\x1b\x7f]",
    )
)
