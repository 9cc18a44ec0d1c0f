"""Where else bundles lie: in the outboxes of exporters, below the telemetry folder.

Whoever deletes what was recorded looks there too. Readers do not: what waits to be sent
by an exporter without ``file`` beside it was not meant to be kept.
"""

from __future__ import annotations

import os

from stack_composer.telemetry.store import names


def existing(directory: str) -> list[str]:
    """The paths of the outboxes of a telemetry folder; a link in the place of one is none."""
    places = [os.path.join(directory, name) for name in names.OUTBOXES.values()]
    return [place for place in places if os.path.isdir(place) and not os.path.islink(place)]
