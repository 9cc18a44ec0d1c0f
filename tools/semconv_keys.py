"""Write the table of known attribute keys from OpenTelemetry's semantic conventions.

Usage: ``python tools/semconv_keys.py CHECKOUT``, with a checkout of the repository
semantic-conventions at a released version. Whoever raises the version runs it, and
reviews what changed in ``guard/semconv.py``; no program and no test does.

The conventions give names and types. What a text tells of somebody they do not say, so
that is decided here, by name: ``BY_NAME`` and ``BY_ENDING``.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]  # its types are not among our tools

TABLE = Path(__file__).resolve().parent.parent / "src/stack_composer/telemetry/guard/semconv.py"

CLASSES = {
    "measure": "Numbers, yes or no, and closed lists.",
    "text": "Texts of a program: searched, whatever words the key has.",
    "machine": "Ids made by machines: a run of digits in them is no card or telephone number.",
    "url": "Addresses: searched, above all for what stands in a query.",
    "identity": "Identifies a person or a computer: hashed.",
    "content": "What people wrote, or the values that they looked for: dropped.",
    "credential": "Lets its reader in: masked.",
    "sql": "Queries: their literals are masked.",
    "arguments": "Command lines: what follows an option for a credential is masked.",
}

BY_NAME = {
    "identity": """
        app.installation.id cloud.account.id db.user device.id enduser.id enduser.pseudo.id
        file.owner.id file.owner.name gcp.gce.instance.hostname host.id host.ip host.mac host.name
        hw.network.logical_addresses hw.network.physical_address hw.serial_number mcp.session.id
        network.carrier.icc process.owner process.real_user.name process.saved_user.name
        process.user.name session.id session.previous_id user.email user.full_name user.hash
        user.id user.name
    """,
    # Parameters of a query and the environment are values that nobody chose to record.
    # The explanation of an evaluation retells the answer that it judges.
    "content": """
        db.operation.parameter db.query.parameter gen_ai.completion gen_ai.evaluation.explanation
        gen_ai.input.messages gen_ai.output.messages gen_ai.prompt gen_ai.retrieval.documents
        gen_ai.retrieval.query.text gen_ai.system_instructions gen_ai.tool.call.arguments
        gen_ai.tool.call.result gen_ai.tool.definitions process.environment_variable
    """,
    "credential": "db.connection_string",
    "sql": "db.query.text db.statement graphql.document",
    "arguments": """
        container.command_args container.command_line process.command_args process.command_line
        process.title
    """,
    "url": """
        browser.document.url.full http.target http.url mcp.resource.uri url.fragment url.full
        url.original url.path url.query
    """,
    "machine": """
        cassandra.coordinator.id cloudevents.event_id container.id container.image.repo_digests
        db.cassandra.coordinator.id db.response.status_code faas.invocation_id gen_ai.response.id
        gen_ai.tool.call.id gen_ai.conversation.id k8s.namespace.name k8s.pod.name
        messaging.message.conversation_id messaging.message.id oci.manifest.digest
        process.executable.build_id.gnu process.executable.build_id.go
        process.executable.build_id.htlhash process.executable.build_id.profiling
        service.instance.id service.version
    """,
}
BY_ENDING = {
    "machine": (".arn", ".arns", ".hash", ".md5", ".request_id", ".revision", ".run.id", ".sha1",
                ".sha256", ".uid", ".uuid", "_request_id"),
    "url": (".url.full",),
}  # fmt: skip
NUMBERS = ("int", "double", "boolean")

_HEAD = '''"""The attribute keys of OpenTelemetry's semantic conventions by what they hold.

Made by tools/semconv_keys.py from version {version}; never edited. A key that ends
in a dot stands for all keys below it.
"""

VERSION = "{version}"
'''


def main() -> None:
    """Read the model of the checkout named on the command line, write the table."""
    checkout = Path(sys.argv[1])
    manifest = (checkout / "model/manifest.yaml").read_text(encoding="utf-8")
    version = re.search(r"schemas/([0-9.]+)$", manifest, re.MULTILINE)
    if version is None:
        sys.exit("model/manifest.yaml names no released version")
    TABLE.write_text(render(classify(checkout), version[1]), encoding="utf-8", newline="\n")


def classify(checkout: Path) -> dict[str, str]:
    """Give each key's class; a key that ends in a dot stands for all below it."""
    found = {}
    for attribute in attributes(checkout):
        kind = attribute["type"]
        template = isinstance(kind, str) and kind.startswith("template[")
        found[attribute["id"] + "." * template] = class_of(attribute["id"], kind)
    named = {name for names in BY_NAME.values() for name in names.split()}
    if unknown := named - {name.rstrip(".") for name in found}:
        sys.exit(f"decided by name, but not in the conventions: {sorted(unknown)}")
    return found


def attributes(checkout: Path) -> Iterator[dict[str, Any]]:
    """Every attribute that the model defines, deprecated ones too."""
    for path in sorted((checkout / "model").rglob("*.yaml")):
        model = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        for group in model.get("groups") or ():
            yield from (found for found in group.get("attributes") or () if "id" in found)


def class_of(name: str, kind: object) -> str:
    """The class of the attribute ``name``, whose type is ``kind`` (a dict for an enum)."""
    for chosen, names in BY_NAME.items():
        if name in names.split():
            return chosen
    if isinstance(kind, dict) or str(kind).removesuffix("[]") in NUMBERS:
        return "measure"
    for chosen, endings in BY_ENDING.items():
        if name.endswith(endings):
            return chosen
    return "text"


def render(found: dict[str, str], version: str) -> str:
    """The text of the table: one constant a class, one key a line."""
    parts = [_HEAD.format(version=version)]
    for chosen, meaning in CLASSES.items():
        names = "".join(f"{name}\n" for name in sorted(found) if found[name] == chosen)
        parts.append(f'\n# {meaning}\n{chosen.upper()} = """\n{names}"""\n')
    return "".join(parts)


if __name__ == "__main__":
    main()
