"""The syntax trees of ``re``, which gates and users' patterns are made from.

``re`` parses patterns with these modules and keeps them to itself: they are the only way
to know what a pattern means to ``re``, and have been the same from Python 3.11 on. Here
alone they are imported, so that a version that moves them is met in one place.
"""

from __future__ import annotations

from importlib import import_module

__all__ = ["code", "parser"]

# By name, since type checkers disagree on whether ``re`` has them.
code = import_module("re._constants")
parser = import_module("re._parser")
