"""The pytest fixture ``telemetry_capture``; see ``testing.capture``.

Apart from it, since ``capture`` serves any test runner and must not import pytest, and
pytest, which loads this by its entry point at each start, need not import the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stack_composer.telemetry.testing import Captured


@pytest.fixture
def telemetry_capture() -> Iterator[Captured]:
    """Capture in memory what the test records: ``.spans``, ``.metrics``, ``.logs``."""
    from stack_composer.telemetry.testing import capture

    with capture() as captured:
        yield captured
