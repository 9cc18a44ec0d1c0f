"""What the user decided about redaction, as one frozen value.

The engine reads nothing but this: no file, no environment. So the pipeline, the
command ``guard test`` and a test all get the same answers from the same policy.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from .own import OwnRule

PROFILES = ("default", "strict")
IDENTIFIERS = ("hmac", "sha256")
SALT_BYTES = 32


class Policy:
    """Frozen by convention; a changed policy is a new ``Guard``.

    Attributes:
        profile: "default" (credentials, content, e-mail, cards, bank accounts, home
            folders) or "strict" (network addresses and telephone numbers too).
        identifiers: How project, user and host ids are hashed. "hmac" is keyed with
            the salt; "sha256" is the plain hash, which a dictionary reverses.
        salt: At least 32 bytes that stay on this computer; unused with "sha256".
        record_content: Content keys that may be recorded, as they are written in
            attributes ("gen_ai.input.messages"). Their texts are still searched.
        rules: The user's own rules (``own.read_rules``).
        allow: What is let be: globs over keys, and for each the entries "rule" or
            "rule:glob over the match" (``own.read_allow``).
    """

    __slots__ = ("allow", "identifiers", "profile", "record_content", "rules", "salt")

    def __init__(
        self,
        *,
        profile: str = "default",
        identifiers: str = "hmac",
        salt: bytes = b"",
        record_content: Iterable[str] = (),
        rules: Iterable[OwnRule] = (),
        allow: Iterable[tuple[str, tuple[str, ...]]] = (),
    ) -> None:
        if profile not in PROFILES:
            raise ValueError(f"profile={profile!r}: must be one of {', '.join(PROFILES)}")
        if identifiers not in IDENTIFIERS:
            raise ValueError(
                f"identifiers={identifiers!r}: must be one of {', '.join(IDENTIFIERS)}"
            )
        if identifiers == "hmac" and len(salt) < SALT_BYTES:
            raise ValueError(f"salt=<{len(salt)} bytes>: hmac needs at least {SALT_BYTES}")
        self.profile = profile
        self.identifiers = identifiers
        self.salt = salt
        self.record_content = frozenset(record_content)
        self.rules = tuple(rules)
        self.allow = tuple(allow)
