"""Write the list of rules in docs/privacy.md from the guard's own table.

Usage: ``python tools/privacy_page.py``; a test fails while the page is out of step.
All else on that page is written by hand, so the page is changed in place, between two
marks.
"""

from __future__ import annotations

from pathlib import Path

from stack_composer.telemetry.guard.rules import TIERS, describe, key_rules

PAGE = Path(__file__).resolve().parent.parent / "docs" / "privacy.md"
BEGIN = "<!-- rules: made by tools/privacy_page.py from guard/rules.toml -->\n"
END = "<!-- end of the rules -->\n"

TITLES = {
    "key": ("By key", "The words of an attribute's key decide, whatever the value is."),
    "content": ("Content in a text", "JSON, or Python's repr of it, anywhere in a text."),
    "structure": ("By form", "What is known by its form alone."),
    "scheme": ("Authorization and cookies", "What follows the name of a header or a scheme."),
    "url": ("In addresses", "What stands in front of a host, or in a query."),
    "assignment": ("Assignments", "What is assigned to a word for a password or a key."),
    "person": ("Personal data", "What tells of a person."),
    "national": ("Numbers given by states", "By check digit, by form, or after a word for one."),
}
PROFILES = {"default": "both", "strict": "strict"}
ACTIONS = {
    "arguments": "masked in part",
    "drop": "dropped",
    "hash": "hashed",
    "literals": "masked in part",
    "mask": "masked",
    "pass": "searched",
}


def page(text: str) -> str:
    """Give the whole page ``text`` with today's rules between its marks."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{PAGE} has lost its marks")
    return f"{before}{BEGIN}\n{rules()}\n{END}{after}"


def rules() -> str:
    """Give the list, a table for each tier, then the words of the content keys."""
    return "\n".join([*(tier(name) for name in TIERS), content_words()])


def tier(name: str) -> str:
    """Give one tier: its title, what it goes by, and a row for each rule."""
    title, meaning = TITLES[name]
    rows = [row(rule) for rule in describe() if rule["tier"] == name]
    head = "| rule | in profile | what it finds is | what and why |\n|---|---|---|---|\n"
    return f"### {title}\n\n{meaning}\n\n{head}{''.join(rows)}"


def row(rule: dict[str, str]) -> str:
    """Give one rule; a bar would end the cell."""
    reason = rule["reason"].replace("|", "\\|")
    where, action = PROFILES[rule["profile"]], ACTIONS[rule["action"]]
    return f"| `{rule['name']}` | {where} | {action} | {reason} |\n"


def content_words() -> str:
    """Name the keys whose values are never recorded: the rules that drop."""
    parts = ["### Keys whose values are never recorded\n"]
    for rule in key_rules():
        if rule.action == "drop":
            where = "at the end of a key" if rule.ends else "anywhere in a key"
            words = ", ".join(f"`{phrase}`" for phrase in sorted(rule.words))
            parts.append(f"`{rule.name}`, {where}: {words}.\n")
    spared = sorted({word for rule in key_rules() if rule.action == "drop" for word in rule.spared})
    parts.append(
        "Unless a word follows that tells of a measure or a description: "
        + ", ".join(f"`{word}`" for word in spared)
        + ".\n"
    )
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8", newline="\n")
