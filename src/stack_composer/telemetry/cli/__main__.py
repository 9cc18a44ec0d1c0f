"""``python -m stack_composer.telemetry.cli`` is ``stack-composer``."""

from __future__ import annotations

import sys

from stack_composer.telemetry.cli.main import main

sys.exit(main())
