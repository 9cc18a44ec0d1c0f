"""What the three commands ``serve install``, ``remove`` and ``status`` have in common."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from stack_composer.telemetry.schedule import apply
from stack_composer.telemetry.schedule.services import METHODS

if TYPE_CHECKING:
    import argparse

    from stack_composer.telemetry.schedule.plans import Job

MANAGER_KEY = {"method": f"the manager of services: {', '.join(METHODS)}; null: none is known"}


def add_manager(parser: argparse.ArgumentParser) -> None:
    """Which manager of services."""
    parser.add_argument(
        "--method",
        choices=METHODS,
        help="the manager of services; what this system has, if left out",
    )


def service_of(args: argparse.Namespace) -> Job:
    """The service of this user.

    Raises:
        ScheduleError: No manager of services is known here.
    """
    return apply.service_of(args.method or apply.best_service_method(), os.environ)
