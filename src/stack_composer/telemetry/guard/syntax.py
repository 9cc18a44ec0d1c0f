"""The syntax trees of ``re``, which gates and users' patterns are made from.

``re`` parses patterns with these modules and keeps them to itself: they are the only way
to know what a pattern means to ``re``, and have been the same from Python 3.11 on. Here
alone they are imported, so that a version that moves them is met in one place.
"""

from __future__ import annotations

from re import _constants as code  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]

__all__ = ["code", "parser"]
