"""What ``enable`` and ``disable`` share: edit the file, then say what now holds.

The file is only one of the voices; ``--gdpr`` or a variable may still say no. So
the answer is read back from the configuration instead of taken for granted.
"""

from __future__ import annotations

from stack_composer.telemetry.cli import output
from stack_composer.telemetry.cli.config_path import config_place

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

JSON_KEYS = {
    "config_path": "the file that was edited",
    "enabled": "what it now says",
    "recording": "whether programs record now",
    "reason": "which setting decides that",
}


def switch(args: argparse.Namespace, *, enabled: bool) -> int:
    """Set ``enabled`` in the configuration file and print what now holds.

    Raises:
        ConfigError: The file is broken or cannot be written; it stands as it was.
    """
    from stack_composer.telemetry.config import edit_config, effective_mode, load_config

    path = config_place()[0]
    edit_config(path, "telemetry.enabled", enabled)
    recording, reason = effective_mode(load_config())
    if args.json:
        output.print_json(
            {"config_path": path, "enabled": enabled, "recording": recording, "reason": reason}
        )
        return 0
    output.say(f"enabled = {'true' if enabled else 'false'} in {path}")
    if recording:
        output.say(f"recording is on: {reason}")
    else:
        output.say(f"recording is off: {reason}")
    if not enabled:
        output.say("running programs stop within a second; what was recorded stays until 'purge'")
    return 0
