"""The pytest fixture ``telemetry_capture``; see ``testing.capture``."""

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
