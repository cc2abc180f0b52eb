"""What is secret leaves every text, whatever surrounds it, and nothing else does."""

from __future__ import annotations

import base64
import json
import re
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobtrail import failures
from jobtrail.errors import UsageError
from jobtrail.producers.logs import AttemptLog, read_log
from jobtrail.producers.safe_text import CONTROLS
from jobtrail.producers.scrub import JSON_SIGNS, SHAPES, Secrets, says_secret, shapes
from jobtrail.producers.secret_fields import hide_files, secrets_of

KEY = "-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEA75lv\nq3xQ==\n-----END RSA PRIVATE KEY-----"
#: A text, and what must be gone from it.
TOLD = {
    "postgresql://etl:hunter2@db/prod": "hunter2",
    "https://user:p@ss@host/path is away": "p@ss",
    "Authorization: Bearer abcdefgh": "abcdefgh",
    "{'Authorization': 'Basic dXNlcjpwYXNz'}": "dXNlcjpwYXNz",
    "sent bearer 8f14e45fceea167a": "8f14e45fceea167a",
    "key AKIAIOSFODNN7EXAMPLE was refused": "AKIAIOSFODNN7EXAMPLE",
    "ghp_16C7e42F292c6912E7710c838347Ae178B4a": "ghp_16C7",
    "github_pat_11ABCDEFG0abcdefghijkl_mnop": "11ABCDEFG0",
    "xoxb-17653672481-19874698323-pdFZKVeTuE8sk7oOcHrzqqgy": "17653672481",
    "sk-proj-abcdefghijklmnopqrst": "abcdefghij",
    "sk_live_4eC39HqLyjWDarjtT1zdp7dc": "4eC39HqLyjWDarjtT1zdp7dc",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_X": "eyJzdWIi",
    "AIzaSyDaGmWKa4JsXZ-HjGw7ISLn_3namBGewQe": "AIzaSyD",
    f"cannot load {KEY} from the config": "MIIEowIBAAKCAQEA75lv",
    json.dumps({"key": KEY}): "MIIEowIBAAKCAQEA75lv",
    "\x1b[31mghp_16C7e42F292c6912E7710c838347Ae178B4a\x1b[0m": "16C7e42F",
    r"a quoted line\nAKIAIOSFODNN7EXAMPLE": "AKIAIOSFODNN7EXAMPLE",
    "host=db user=etl password=hunter2 dbname=x": "hunter2",
    "host=db password='hun ter2' dbname=x": "hun ter2",
    '{"password": "hun\\"ter2"}': "ter2",
    r"body: {\"client_secret\": \"hunter2\", \"a\": 1}": "hunter2",
    "connect(user='etl', passwd='hunter2')": "hunter2",
    "AccountKey=hunter2==;EndpointSuffix=x": "hunter2",
    "GET https://x/y?api_key=hunter2&page=2": "hunter2",
    "GET https://x/y?page=2&sig=hunter2%3D": "hunter2",
    "X-Api-Key: hunter2": "hunter2",
}
HARMLESS = [
    "password authentication failed for user etl",
    "Bearer authentication failed",
    "GET http://localhost:8080/users/a@example.org",
    "the primary key is missing, token=",
    "task-force sk-1 risk-management-is-a-long-word",
    '{"password": null, "secret": none}',
    "at 12:30:45 in file:///home/x.py:12",
]


@pytest.mark.parametrize("told", TOLD)
def test_the_shape_of_a_secret_is_seen(told: str) -> None:
    scrubbed = shapes.text(told)
    assert TOLD[told] not in scrubbed
    assert "***" in scrubbed
    assert shapes.text(scrubbed) == scrubbed


@pytest.mark.parametrize("text", HARMLESS)
def test_what_only_speaks_of_secrets_stays(text: str) -> None:
    assert shapes.text(text) == text


def test_what_is_around_a_secret_stays() -> None:
    assert (
        shapes.text("for postgres://etl:hunter2@db/x: down") == "for postgres://etl:***password***@db/x: down"
    )
    assert shapes.text(f"a {KEY} b") == "a ***private_key*** b"


#: Pieces of which secrets, and what looks like a replacement, are made.
PIECES = [
    *TOLD,
    *HARMLESS,
    *("***", "***password***", "password", "=", ": ", '"', "'", "\\", "://", "@", ":", " ", "\n", "Bearer "),
    *(
        "eyJ",
        "sk-",
        "pa\u017f\u017fword=",
        "to\u212aen=1",
        "-----BEGIN PRIVATE KEY-----",
        "x" * 70,
        "hunter2",
    ),
    *("\x1b[31m", "\r\n", "\r", "\u202e", "\x9b", "\x7f"),
]
TEXTS = st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=8).map("".join)


@settings(deadline=None, max_examples=1000)
@given(TEXTS, st.integers(150, 400))
def test_scrubbing_twice_is_scrubbing_once(text: str, limit: int) -> None:
    secrets = Secrets()
    secrets.add([("a", "hunter2"), ("b", "hunter2!"), ("c", "pass")])
    once = secrets.text(text)
    assert secrets.text(once) == once
    assert "hunter2" not in once
    cut = shapes.fit(text, limit)
    assert len(cut) <= limit
    assert not re.search("[\x1b\r\u202e\x9b\x7f]", cut)
    assert shapes.fit(cut, limit) == cut


@settings(deadline=None, max_examples=1000)
@given(TEXTS)
def test_where_there_is_no_sign_there_is_no_secret(text: str) -> None:
    """What the projector need not look at, it would not change."""
    for shape in SHAPES:
        if shape.hide(text) != text:
            assert any(sign in text.lower() for sign in shape.signs)
    metadata = json.dumps({text: text})
    if shapes.json_text(metadata) != metadata and not re.search(CONTROLS, metadata):
        assert any(sign in metadata.lower() for sign in JSON_SIGNS)


@pytest.mark.parametrize(
    "hostile",
    [
        "password" * 200_000,
        "eyJ" * 500_000,
        "0meyJ" * 200_000,
        "0msk-" * 200_000,
        "://a:" * 300_000,
        "://a:" + "@:" * 500_000,
        "-----BEGIN PRIVATE KEY-----" * 60_000,
        "\\" * 1_000_000 + "password",
        "password" + "\\" * 1_000_000,
        'password="' + "\\a" * 500_000,
        'password: \\"' * 100_000,
        "authorization" + " " * 1_000_000,
        "bearer " * 200_000,
        "a" * 2_000_000,
    ],
    ids=lambda text: text[:12],
)
def test_hostile_text_takes_time_in_proportion_to_its_size(hostile: str) -> None:
    """A quadratic pattern would take minutes."""
    begun = time.process_time()
    shapes.text(hostile)
    assert time.process_time() - begun < 10


@given(
    st.text(min_size=6, max_size=20).filter(lambda value: "*" not in value),
    st.text(alphabet="ab ,", max_size=10),
    st.text(alphabet="ab ,", max_size=10),
)
def test_a_known_value_is_found_in_any_spelling(value: str, before: str, after: str) -> None:
    secrets = Secrets()
    secrets.add([("db_password", value)])
    mark = "***db_password***"
    spellings = [value, json.dumps(value)[1:-1], repr(value)[1:-1]]
    spellings += [quote(value, safe=""), base64.b64encode(value.encode()).decode().rstrip("=")]
    for spelling in spellings:
        assert mark in secrets.text(f"{before} {spelling} {after}")


def test_the_longest_secret_goes_first() -> None:
    secrets = Secrets()
    secrets.add([("short", "hunter2"), ("long", "hunter2-and-more")])
    assert secrets.text("it is hunter2-and-more") == "it is ***long***"


def test_values_that_stand_in_any_text_stay() -> None:
    secrets = Secrets()
    secrets.add([("password", "on"), ("pin", "123")])
    assert secrets.text("123 records on one page") == "123 records on one page"


def test_the_fields_of_json_are_scrubbed_before_they_are_spelled() -> None:
    """A quote or a letter outside of ASCII in a secret does not hide it; all else stays as it was."""
    secrets = Secrets()
    secrets.add([("password", 'hun"tér\n2')])
    metadata = (
        '{"a":1.50, "said": "it is hun\\"t\\u00e9r\\n2", "apiKey" : "short", "list":["ghp_%s",null]}'
        % ("a1" * 18)
    )
    assert secrets.json_text(metadata) == (
        '{"a":1.50, "said": "it is ***password***", "apiKey" : "***secret***", "list":["***token***",null]}'
    )


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        *((name, True) for name in ("password", "DB_PASSWORD", "clientSecret", "apiKey", "api_key", "token")),
        *((name, True) for name in ("refresh_token", "AWS_SECRET_ACCESS_KEY", "private-key", "passphrase")),
        *((name, False) for name in ("token_uri", "primary_key", "user", "secret_name", "host", "tokenizer")),
    ],
)
def test_names_that_say_that_a_value_is_secret(name: str, secret: bool) -> None:
    assert says_secret(name) is secret


SPEC: dict[str, Any] = {
    "type": "SPEC",
    "spec": {
        "connectionSpecification": {
            "definitions": {"pin": {"type": "string", "airbyte_secret": True}},
            "properties": {
                "host": {"type": "string"},
                "pin": {"$ref": "#/definitions/pin"},
                "auth": {
                    "oneOf": [
                        {"properties": {"kind": {"const": "none"}}},
                        {"properties": {"kind": {"const": "key"}, "phrase": {"airbyte_secret": True}}},
                    ]
                },
                "accounts": {
                    "type": "array",
                    "items": {
                        "properties": {"name": {}, "code": {"type": "integer", "airbyte_secret": True}}
                    },
                },
                "bundle": {"type": "object", "airbyte_secret": True},
            },
        }
    },
}


def test_what_the_spec_marks_is_secret_however_deep() -> None:
    config = {
        "host": "db.example.org",
        "pin": "first",
        "auth": {"kind": "key", "phrase": "second"},
        "accounts": [{"name": "alice", "code": 4711}, {"name": "bob", "code": 4712}],
        "bundle": {"any": ["third"], "flag": True},
        "unmarked_password": "fourth",
    }
    found = {value for _, value in secrets_of(config, SPEC)}
    assert found == {"first", "second", "4711", "4712", "third", "fourth"}
    assert {value for _, value in secrets_of(config, None)} == {"fourth"}


def test_the_keys_of_a_service_account_are_secret_by_themselves() -> None:
    account = json.dumps({"type": "service_account", "private_key": KEY})
    found = {value for _, value in secrets_of({"credentials_json": account})}
    assert found == {account, KEY}


def test_a_spec_that_refers_to_itself_comes_to_an_end() -> None:
    spec = {"$ref": "#/properties/a", "properties": {"a": {"$ref": "#/properties/a", "airbyte_secret": True}}}
    assert {value for _, value in secrets_of({"b": "value"}, spec)} == {"value"}


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"the configuration '.*none.json' cannot be read"):
        hide_files([tmp_path / "none.json"])
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(UsageError, match="is no JSON object"):
        hide_files([tmp_path / "list.json"])


def test_a_secret_is_not_cut_in_half() -> None:
    """Where a text is cut, no half of a secret is left: it is scrubbed first."""
    secret = "postgres://u:" + "hunter2" * 8 + "@db"
    for before in range(49_900, 50_010, 7):
        failed = failures.source("x" * (before // 2) + secret + "y" * 60_000)
        assert "hunter2" not in (failed.internal_message or "")


def test_a_private_key_that_comes_line_by_line_is_not_kept(tmp_path: Path) -> None:
    log = AttemptLog(tmp_path, 7, 0, 100_000)
    for line in ("before", *KEY.splitlines(), "after"):
        log.write("source", line.encode())
    log.write("source", f"{KEY}\nword")
    log.close()
    kept = [line.split(" ", 1)[1].split(None, 1)[1] for line in read_log(tmp_path, 7, 0)]
    assert kept == ["before", "***private_key***", "after", "***private_key***", "word"]
