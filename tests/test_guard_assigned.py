"""Secrets that only the words around them tell of: which are found, which texts stay."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack_composer.telemetry.guard.engine import Guard
from stack_composer.telemetry.guard.examples import expand
from stack_composer.telemetry.guard.policy import Policy
from stack_composer.telemetry.guard.reference import redact_reference
from stack_composer.telemetry.guard.validators import assigned, services, shapes

GUARD = Guard(Policy(profile="default", identifiers="sha256"))
WORD = "bluewhale"
SIGNS = "a#{b}w)t${q]vex[grows>-_$#two"
SERIES = "zyxwvutsrqponmlkjihg"
HEX = expand("«hex 32»", 3)
MIXED = expand("«alnum 24»", 4)


def masked(text: str) -> list[str]:
    """What is masked of ``text``, in order."""
    return [text[finding.start : finding.end] for finding in GUARD.findings(text)]


@pytest.mark.parametrize("key", ["password", "DB_PASSWORD", "dbPasswd", "smtp_pass"])
@pytest.mark.parametrize(
    "form",
    [
        '{key} = "{value}"',
        '"{key}": "{value}",',
        "'{key}' => '{value}'",
        "{key}={value}",
        "export {key}={value}",
        "{key}: {value}\nnext: 1",
        '{key} := "{value}"',
        'let {key}: &str = "{value}";',
        'char {key}[25] = "{value}";',
        'NSString *{key} = @"{value}";',
        '<add key="{key}" value="{value}" />',
        "<{key}>{value}</{key}>",
        "<key>{key}</key>\n<string>{value}</string>",
        "- name: {key}\n  value: {value}",
        '{{\\"{key}\\": \\"{value}\\"}}',
        '{key} = os.getenv("X", "{value}")',
        "Config(n=1, {key}='{value}')",
        "run --{key} {value} now",
        '{key} "{value}";',
        '{{"name": "{key}", "value": "{value}"}}',
        '<setting name="{key}" serializeAs="String"><value>{value}</value></setting>',
        '{key}: Some("{value}".into()),',
        '{key} = base64("{value}")',
        'if (${key} eq "{value}") {{',
        'if "{value}" == {key}:',
        "if ('{value}' !== $user->{key}) {{",
        '"{value}".equals({key})',
        "FROM x\nENV {key} {value}\n",
        'setx {key} "{value}"',
    ],
)
@pytest.mark.parametrize("value", [WORD, HEX, MIXED, "Tr0ub4dor!3"])
def test_a_password_is_found_wherever_it_is_assigned(key: str, form: str, value: str) -> None:
    """Exactly the value: no quote, no comma, no closing tag."""
    assert masked(form.format(key=key, value=value)) == [value]


@pytest.mark.parametrize("key", ["api_key", "client_secret", "fooApiKeyProd", "AUTH_TOKEN"])
@pytest.mark.parametrize(
    "form",
    [
        '{key} = "{value}"',
        '"{key}": "{value}",',
        "{key}={value}",
        "{key}: {value}",
        '{key} :::= "{value}"',
        "<{key}>\n    {value}\n</{key}>",
        'variable "{key}" {{\n  default = "{value}"\n}}',
        "{key}: |\n  {value}\n",
        '{key} = ["{value}"]',
        "docker run -e {key}={value} image",
    ],
)
@pytest.mark.parametrize("value", [HEX, MIXED, SERIES, "715991059789296195"])
def test_a_secret_word_takes_whatever_is_no_word(key: str, form: str, value: str) -> None:
    assert masked(form.format(key=key, value=value)) == [value]


@pytest.mark.parametrize("form", ['password = "{}"', "db_pass: {}", "SECRET_KEY = '{}'"])
def test_signs_of_code_belong_to_a_generated_password(form: str) -> None:
    assert masked(form.format(SIGNS)) == [SIGNS]


@pytest.mark.parametrize(
    "text",
    [
        f"eagleeyenetworks ACCESS {MIXED}",
        f"restpack foo SECRET bar {HEX}",
        f"oanda ACCESS TOKEN {SERIES.upper()}",
        f"wandb {HEX}",
        f'postmark: "{HEX[:8]}-{HEX[8:12]}-{HEX[12:16]}-{HEX[16:20]}-{HEX[20:]}"',
        f"Unseal Key 2: {MIXED}=",
        f"vault operator unseal {MIXED}=",
        f"use the following password to go on:\n\n{HEX}\n",
        f'the default password for the user "x" is "{WORD}"',
        "my password is hunter2x",
        f"machine h login alice password {WORD}",
        f"psexec \\\\h -u $A -p {WORD} cmd",
        f"Connect-Server h -Password {WORD}",
        f'new DirectoryEntry("LDAP://h", "dom\\\\u", "{WORD}")',
        f"smtp.login('alice', '{WORD}')",
        f"CREATE USER x IDENTIFIED BY '{WORD}'",
        f"create user x identified by {WORD}",
        f"ALTER USER x IDENTIFIED WITH caching_sha2_password BY '{WORD}'",
        f"CREATE LOGIN x WITH PASSWORD = N'{WORD}'",
        f"EXEC sp_addlogin 'bob', '{WORD}'",
        f"ConvertTo-SecureString -AsPlainText -Force '{WORD}'",
        f"PSSWORD={MIXED}",
        f"mysqlpass: {MIXED}",
        f'PASSWORD = os.getenv("X_PASSWORD") or "{WORD}"',
        f'$token = $_ENV["TOKEN"] ?? "{MIXED}";',
        f"pepipost_api={MIXED}",
        f"myAuth := {MIXED}",
        f"GITHUBKEY={MIXED}",
        f"CC_TEST_REPORTER_ID: {HEX}{HEX}",
        "activation key: QWXZT-BCDFG-HJKLM-NPQRS",
        f"okta_api_token = {'b' * 40}",
        f"api_key: {'b' * 28}cccc",
        f"aws_access_key_id = {MIXED}",
        "community_string: hunter2x",
    ],
)
def test_prose_services_and_commands(text: str) -> None:
    assert len(masked(text)) == 1


@pytest.mark.parametrize(
    "text",
    [
        "password: str | None = None",
        "password: required",
        "password=password",
        "connect(user=user, password=password, host=host)",
        "password = os.environ['DB_PASSWORD']",
        "password=${DB_PASSWORD}",
        'password = "{{ db_password }}"',
        "password: <your password>",
        'label = "Password: must be long"',
        "password_policy=strict",
        "password_hash_algorithm: argon2id",
        "passwordless: enabled",
        "the password is incorrect",
        "password reset for user 42",
        "bypass: north-east",
        "token = get_token(request)",
        "token_type: authorizationcode",
        "max_tokens=4096",
        "token: 12",
        "api_key=YOUR_API_KEY",
        "secretKeyRef: app-config",
        "secretName: my-app-tls-v2",
        "cache_key=user:profile:view",
        f"cache key {HEX}",
        f"primary key {HEX}",
        f"public key: {HEX}",
        f"idempotency_key={HEX}",
        f"commit {HEX}",
        f"docker {HEX}",
        f"github: {HEX}",
        f"trace_id={HEX} span_id={HEX[:16]}",
        f"image: repo/app@sha256:{HEX}{HEX}",
        f"docusign_id: {HEX}",
        f"sendgrid id={HEX[:8]}-{HEX[8:12]}-{HEX[12:16]}-{HEX[16:20]}-{HEX[20:]}",
        f"orders_api: {HEX}",
        "algolia app: products-by-price-and-name",
        "newrelic.account.id=1234567",
        "token or cookie required",
        "Invalid password or PKCS12 data",
        "the api key or k3J9dQ2m is wrong",
        'HTTPBasicAuth(username or "", password or "")(resp.request)',
        "getpass.getpass(' Confirm: ')",
        "OPpASSIGN_COMMON => 'COM_RC1'",
        f"api_token = {'x' * 40}",
        f"secret = {'0' * 40}",
        "users are identified by fingerprint, then admitted",
        'if token != "bearer-of-the-ring":',
        f"token id: {HEX}",
        "partition key: order-items-by-day",
        "access /var/lib/postgresql/data/base/16384",
        "foreign key constraint orders_customer_id_fkey violated",
        "key=value",
        "SELECT token FROM sessions WHERE access_token = $1",
    ],
)
def test_what_tells_of_a_secret_and_is_none_stays(text: str) -> None:
    assert masked(text) == []


def test_a_secret_said_twice_is_masked_twice() -> None:
    """The second time no word stands beside it."""
    assert masked(f"token={MIXED}; refused: {MIXED}") == [MIXED, MIXED]
    # A plain word would take itself from the rest of the text.
    assert masked("password='bluewhaleshark' in bluewhaleshark bay") == ["bluewhaleshark"]


@pytest.mark.parametrize(
    "word", ["kubernetes", "authentication", "readwritepermission", "nginxcontroller", "postgresql"]
)
def test_words_read_as_words(word: str) -> None:
    assert shapes.is_wordy(word)
    assert not shapes.is_made(word.encode(), 8)


@pytest.mark.parametrize(
    ("value", "made"),
    [
        (HEX, True),
        (SERIES, True),
        ("123456789012", True),
        ("ABCD1234-EFGH5678-IJKL9101", True),
        (f"storecove_{MIXED}", True),
        ("12345678901", False),
        ("my-cool-service-name", False),
        ("oauth2callback", False),
        ("user12345:profile:view", False),
        ("2024-05-06T12:00:00Z", False),
        ("build-2024-release-10", False),
        ("QWXZT-BCDFG-HJKLM-NPQRS", True),
        ("NORTH-SOUTH-EAST-WEST", False),
    ],
)
def test_what_a_machine_made_is_told_from_names(value: str, *, made: bool) -> None:
    assert shapes.is_made(value.encode(), 8) is made


@pytest.mark.parametrize(
    ("before", "found"),
    [
        ("EAGLE_EYE_NETWORKS token=", True),
        ("theOddsApi: ", True),
        ("my service: ", False),
        ("", False),
    ],
)
def test_services_are_known_however_they_are_written(before: str, *, found: bool) -> None:
    words = assigned.words_before(before.encode(), len(before))
    assert assigned.is_service(words, services.SERVICES) is found


def test_the_lists_of_services_are_in_order() -> None:
    """Each name is one word that a key's words can be joined to; common ones are services."""
    assert services.COMMON <= services.SERVICES
    for name in services.SERVICES:
        assert name.isalnum()
        assert name == name.lower()


@given(st.binary(max_size=80), st.integers(0, 80))
def test_the_words_before_are_total(data: bytes, start: int) -> None:
    words = assigned.words_before(data, min(start, len(data)))
    assert all(word == word.lower() for word in words)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<password><![CDATA[" + MIXED + "]]></password>", [MIXED]),
        ("<password>{password}</password>", []),
        ("contraseña: Tr0ub4dor!3", ["Tr0ub4dor!3"]),
        ("mot de passe : Tr0ub4dor!3", ["Tr0ub4dor!3"]),
        ("run --api-key " + MIXED, [MIXED]),
        ("run --api-key-file settings", []),
        ("Server=h;User Id=alice;Password=bluewhale;", ["alice", "bluewhale"]),
        ("AccountName=alice;AccountKey=" + MIXED, ["alice", MIXED]),
        ("AccountName=[name];AccountKey=x", []),
        ("user = (char *) (p + 1);\npwd = (char *) q;", []),
        ('$user = "bob";\n$password = "bluewhale";', ["bob", "bluewhale"]),
        ('$db_user = "bob"; $db_host = "h";', []),
        ("smtps://bob@x.test:bluewhale7@mail.test:465", ["bob@x.test:bluewhale7"]),
        ("auth0ClientId: '" + MIXED + "'", [MIXED]),
        ("bitbucket_client_id=" + MIXED, [MIXED]),
        ("algolia_app_id = 7QW4RT9ZX2", ["7QW4RT9ZX2"]),
        ("facebook_app_id=295182340987651", ["295182340987651"]),
        ("facebook_app_id=2951823", []),
        ('if creds.Secret != "blue-whale" {', ["blue-whale"]),
        ('if creds.Kind != "blue-whale" {', []),
        ('secret: "blue#whale"', ["blue#whale"]),
        ('secret: "blue-whale"', []),
        ('password = "#new-password"', []),
        ('password = "arn:aws:iam::aws:policy/ChangePassword"', []),
        ('f(user, password="", timeout="30")', []),
        ('password = env.PASSWORD || "not-set"', []),
        ("INSERT INTO `users` (`id`, `password`, `flag`) VALUES (1)", []),
        (
            "define('AUTH_KEY',    'V9(>M%0Vl 2(#o0|2$cB+K|.G$hB~4`Ju');",
            ["V9(>M%0Vl 2(#o0|2$cB+K|.G$hB~4`Ju"],
        ),
        ("psexec -u alice -p bluewhale cmd", ["alice", "bluewhale"]),
        ("username 'alice'\n  password 'bluewhale'", ["alice", "bluewhale"]),
        ("machine h login alice password hunter2x", ["alice password hunter2x"]),
        ("machine h login alice", []),
        ('secret = "B;.:-@*?!k"', ["B;.:-@*?!k"]),
        ('secret = "----------"', []),
        ('password = "correct horse battery staple"', ["correct horse battery staple"]),
        ('password: "enter your new password"', []),
        ("dbname=x user=bob password=bluewhale host=h", ["bluewhale"]),
        ("user = bob\npassword = bluewhale\n", ["bluewhale"]),
        ("password = bluewhale\n", []),
        ("user: bob, pass: bluewhale", ["bluewhale"]),
        ("id/pass: bob, hunter2x", ["bob, hunter2x"]),
        ('new PDO("mysql:host=h", "bob", "bluewhale")', ["bluewhale"]),
        ("get(u, auth=('bob', 'bluewhale'))", ["bluewhale"]),
        ("пароль: Tr0ub4dor!3", ["Tr0ub4dor!3"]),
        ("비번:Tr0ub4dor!3", ["Tr0ub4dor!3"]),
        ("kanbantool: h4x9k2m7q5w1z8", ["h4x9k2m7q5w1z8"]),
        ("kanbantool: production-west", []),
        ('if "admin" == token_type:', []),
        ('if "GET" == method: password = get()', []),
        ('password = input("Password: ")', []),
        ('password = request.get("x")', []),
    ],
)
def test_what_stands_around_a_secret(text: str, expected: list[str]) -> None:
    """Wrappers, other languages, arguments, and the user's name next to a password."""
    assert masked(text) == expected


def test_a_key_of_a_cache_is_none_of_a_service() -> None:
    guard = Guard(Policy(salt=bytes(32)))
    digest = "51d9ec0c747652cf8f1c88f79121e0fd"
    assert guard.value("note", f"cache miss key={digest}") == f"cache miss key={digest}"
    assert digest not in guard.value("note", f"redis api key={digest}")


@pytest.mark.parametrize("value", ['S3cr"et9xyzQ', "ab\\cd9efXyz", 'a"9\\xQ!mmzK', "it's9Qx7zKm"])
@pytest.mark.parametrize("depth", [0, 1, 2])
def test_a_quoted_password_with_quotes_in_it_is_masked_whole(value: str, depth: int) -> None:
    text = json.dumps({"password": value, "n": 1})
    expected = json.dumps({"password": "[redacted:password]", "n": 1})
    for _ in range(depth):
        text, expected = json.dumps(text), json.dumps(expected)
    assert GUARD.value("note", text) == expected
    assert redact_reference(text) == expected
    call = f"connect(password={value!r}, n=1)"
    hidden = call.replace(repr(value)[1:-1], "[redacted:password]")
    assert GUARD.value("note", call) == hidden
