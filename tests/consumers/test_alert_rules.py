"""A file of rules is understood, or each of its mistakes is told with line, field and what is allowed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobtrail.cli.main import run
from jobtrail.consumers.alerts.positions import read_toml, read_yaml
from jobtrail.consumers.alerts.rule_file import RuleFileError, load
from jobtrail.consumers.alerts.rules import DAY, HOUR, THRESHOLDS, RuleKind, Severity
from jobtrail.errors import UsageError
from jobtrail.kinds import EPOCH

TOML = """\
# Ours.
[[rules]]
name = "stuck"
kind = "no_success"
severity = "critical"
connections = [
    "c-1",  # ]
    "c-2",
]
at_least = "12h"
send = ["log", "ops"]

[[rules]]
name = "volumes"
kind = "volume"
factor = 3

[[pauses]]
connections = ["c-2"]
from = 2026-12-24T00:00:00Z
until = 2027-01-02T00:00:00+02:00
reason = "holidays"

[webhooks.ops]
url_env = "OPS_URL"
secret_env = "OPS_SECRET"
"""
YAML = """\
rules:
  - name: stuck
    kind: no_success
    severity: critical
    connections: [c-1, c-2]
    at_least: 12h
    send: [log, ops]
  - name: volumes
    kind: volume
    factor: 3
pauses:
  - connections: [c-2]
    from: 2026-12-24T00:00:00Z
    until: 2027-01-02T00:00:00+02:00
    reason: holidays
webhooks:
  ops: {url_env: OPS_URL, secret_env: OPS_SECRET}
"""


def written(folder: Path, text: str, suffix: str = ".toml") -> Path:
    file = folder / f"rules{suffix}"
    file.write_text(text, "utf-8")
    return file


def test_toml_and_yaml_say_the_same(tmp_path: Path) -> None:
    """Rules with defaults for what is left out, a pause in another time zone, a webhook by variables."""
    found = load(written(tmp_path, TOML))
    assert found == load(written(tmp_path, YAML, ".yaml")) == load(written(tmp_path, YAML, ".yml"))
    stuck, volumes = found.rules
    assert (stuck.name, stuck.kind, stuck.severity) == ("stuck", RuleKind.NO_SUCCESS, Severity.CRITICAL)
    assert stuck.connections == {"c-1", "c-2"}
    assert (stuck.span("at_least"), stuck.span("floor")) == (12 * HOUR, 8 * DAY)
    assert stuck.send == ("log", "ops")
    assert volumes.thresholds["factor"] == 3
    (pause,) = found.pauses
    assert str(EPOCH.fromtimestamp(pause.ended / 1e6, EPOCH.tzinfo)) == "2027-01-01 22:00:00+00:00"
    assert found.webhooks["ops"].secret_env == "OPS_SECRET"


def test_a_version_is_of_what_decides_and_of_nothing_else(tmp_path: Path) -> None:
    def version(text: str) -> str:
        return load(written(tmp_path, text)).rules[0].version

    same = version(TOML)
    assert version(TOML.replace('"critical"', '"info"').replace('["log", "ops"]', "[]")) == same
    for change in (('"12h"', '"11h"'), ('"stuck"', '"struck"'), ('"c-1"', '"c-3"')):
        assert version(TOML.replace(*change)) != same


#: (what is replaced, by what) → (line, what is said of it).
MISTAKES = {
    ('kind = "no_success"', 'kind = "no_sucess"'): (4, "rules[1].kind: 'no_sucess' is none of failure_rate,"),
    ('kind = "no_success"', "kind = 7"): (4, "rules[1].kind: 7 is none of failure_rate"),
    ('kind = "no_success"\n', ""): (2, "rules[1].kind: is missing: one of failure_rate"),
    ('name = "stuck"\n', ""): (2, "rules[1].name: is missing: a name that is this rule's own"),
    ('name = "stuck"', 'name = ""'): (3, "rules[1].name: is an empty text, and must be a text"),
    ('name = "volumes"', 'name = "stuck"'): (14, "'stuck' is the name of the rule in line 3 too"),
    ('"critical"', '"critcal"'): (5, "is none of info, warning, critical; did you mean 'critical'?"),
    ('at_least = "12h"', 'atleast = "12h"'): (
        10,
        "rules[1].atleast: no such field; no_success has name,",
    ),
    ('at_least = "12h"', "factor = 2"): (10, "belongs to volume; no_success has missed, at_least, floor"),
    ('"12h"', '"12"'): (10, "is '12', and must be a span of time such as"),
    ('"12h"', "12"): (10, "is 12, and must be a span of time such as"),
    ('"12h"', '"1s"'): (10, "is 1s, and must be from 1m to 400d"),
    ("factor = 3", 'factor = "3"'): (16, "is '3', and must be a number from 1.5 to 1000"),
    ("factor = 3", "factor = 1"): (16, "is 1, and must be a number from 1.5 to 1000"),
    ("factor = 3", "factor = nan"): (16, "is nan, and must be a number from 1.5 to 1000"),
    ("factor = 3", "min_history = 4.5"): (16, "is 4.5, and must be a whole number from 4 to 1000"),
    ("factor = 3", "min_history = inf"): (16, "is inf, and must be a whole number from 4 to 1000"),
    ("factor = 3", "min_history = nan"): (16, "is nan, and must be a whole number from 4 to 1000"),
    ('["log", "ops"]', '["log", "opps"]'): (11, "'opps' is none of log, ops; did you mean 'ops'?"),
    ('["log", "ops"]', '"log"'): (11, "is 'log', and must be a list of names"),
    ('[\n    "c-1",  # ]\n    "c-2",\n]', "[]"): (6, "is an empty list; leave it out for all"),
    ('[\n    "c-1",  # ]\n    "c-2",\n]', "[1]"): (6, "must be a list of ids in quotation marks"),
    ('kind = "volume"\nfactor = 3', 'kind = "lag"\nworkspaces = ["w"]'): (
        16,
        "lag is about the whole installation; leave workspaces out",
    ),
    ("2026-12-24T00:00:00Z", "2026-12-24"): (20, "pauses[1].from: is 2026-12-24, and must be a moment"),
    ("2026-12-24T00:00:00Z", "2026-12-24T00:00:00"): (20, "must be a moment with an offset from UTC"),
    ("2026-12-24T00:00:00Z", '"yesterday"'): (20, "'yesterday' is no moment; write 2026"),
    ("2026-12-24T00:00:00Z", "2027-12-24T00:00:00Z"): (21, "pauses[1].until: is not later than `from`"),
    ("until = 2027-01-02T00:00:00+02:00\n", ""): (18, "pauses[1].until: is missing"),
    ("reason", "reson"): (
        22,
        "pauses[1].reson: no such field; known are connections, from, until, reason; did",
    ),
    ('url_env = "OPS_URL"', 'url = "https://secret"'): (
        25,
        "must not stand in the file; name the environment",
    ),
    ('secret_env = "OPS_SECRET"', 'secret = "secret"'): (26, "that holds it: secret_env"),
    ('url_env = "OPS_URL"\n', ""): (24, "webhooks.ops.url_env: is missing: the environment variable"),
    ('"OPS_URL"', '"https://secret"'): (25, "is no name of an environment variable"),
    ('"OPS_URL"', '"JOBTRAIL_URL"'): (25, "JOBTRAIL_* are Jobtrail's own"),
    ("[webhooks.ops]", '[webhooks.ops]\nurl_env = "URL"\n[webhooks.log]'): (
        26,
        "'log' is what `send` calls the log",
    ),
    ("[[pauses]]", "[pauses]"): (18, "pauses: is a table, and must be a list of tables: [[pauses]]"),
    ("# Ours.", "rule = 1"): (
        1,
        "rule: no such field; known are rules, pauses, webhooks; did you mean 'rules'?",
    ),
    ('severity = "critical"', 'name = "again"'): (5, "no TOML: Cannot overwrite a value"),
    ('severity = "critical"', "severity = critical"): (5, "no TOML: Invalid value"),
    ('"12h"', '"12h'): (10, "no TOML: Illegal character"),
}


@pytest.mark.parametrize(("change", "told"), MISTAKES.items(), ids=lambda value: str(value[1])[:40])
def test_each_mistake_is_one_error_with_its_line(
    change: tuple[str, str], told: tuple[int, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`alerts check` says it with status 2, and shows no secret that stands in the wrong place."""
    assert change[0] in TOML
    file = written(tmp_path, TOML.replace(*change, 1))
    line, said = told
    assert run(["alerts", "check", str(file)]) == 2
    shown = capsys.readouterr()
    first = shown.err.splitlines()[0]
    assert first.startswith(f"jobtrail: {file}:{line}: ")
    assert said in first
    assert shown.err.count("\n") == 1
    assert "https://secret" not in shown.err
    assert shown.out == ""


YAML_MISTAKES = {
    ("kind: no_success", "kind: no_sucess"): (3, "did you mean 'no_success'?"),
    ("severity: critical", "kind: volume"): (4, "no YAML: 'kind' is there twice"),
    ("at_least: 12h", "at_least: 12"): (6, "is 12, and must be a span of time"),
    ("connections: [c-1, c-2]", "connections: c-1"): (5, "is 'c-1', and must be a list of ids"),
    ("name: volumes", "name:"): (8, "rules[2].name: is missing"),
    ("factor: 3", "factor: {}"): (10, "rules[2].factor: is a table, and must be a number"),
    ("url_env: OPS_URL", "url: https://secret"): (17, "must not stand in the file"),
    ("rules:", "rules: ]"): (1, "no YAML: "),
    ("rules:", "rules: &a [*a]\nmore:"): (1, ""),
    ("name: stuck", "name: !!python/object/apply:os.system [ls]"): (
        2,
        "no YAML: could not determine a constructor",
    ),
}


@pytest.mark.parametrize(("change", "told"), YAML_MISTAKES.items(), ids=lambda value: str(value[1])[:40])
def test_each_mistake_in_yaml_too(change: tuple[str, str], told: tuple[int, str], tmp_path: Path) -> None:
    assert change[0] in YAML
    line, said = told
    with pytest.raises(RuleFileError) as raised:
        load(written(tmp_path, YAML.replace(*change, 1), ".yaml"))
    first = raised.value.mistakes[0]
    assert first.line == line
    assert said in str(first)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("rules.json", b"{}", "a file of rules ends with .toml, .yaml, .yml, and this one with '.json'"),
        ("absent.toml", None, "cannot be read (No such file or directory)"),
        ("rules.toml", b'[[rules]]\nname = "\xff"', ":2: this is no UTF-8; save the file as UTF-8"),
        ("rules.toml", b"", ":1: it has no [[rules]]; docs/alerts.md shows one of each kind"),
        ("rules.yaml", b"", ":1: it has no [[rules]]"),
        ("rules.yaml", b"- 1", ":1: it has no [[rules]]"),
        ("rules.toml", b"rules = [1]", ":1: rules[1]: is 1, and must be a table with fields"),
        ("rules.toml", b"#" * 1_000_001, "has 1,000,001 bytes; a file of rules has at most 1,000,000"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_is_no_file_of_rules_is_one_error(
    name: str, content: bytes | None, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    assert run(["alerts", "check", str(tmp_path / name)]) == 2
    shown = capsys.readouterr().err
    assert said in shown
    assert shown.count("\n") == 1


def test_check_tells_every_mistake_and_others_the_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the order of their lines; as JSON too."""
    text = TOML.replace('"critical"', '"bad"').replace("factor = 3", "factor = 0").replace('"12h"', '"x"')
    file = written(tmp_path, text)
    assert run(["alerts", "check", str(file)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[2] for line in lines] == ["5", "10", "16"]
    assert run(["alerts", "check", str(file), "--json"]) == 2
    found = json.loads(capsys.readouterr().out)
    assert [mistake["line"] for mistake in found["mistakes"]] == [5, 10, 16]
    assert run(["alerts", "run", str(file)]) == 2
    assert "(and 2 more; `jobtrail alerts check` shows all)" in capsys.readouterr().err


def test_check_shows_what_a_good_file_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(written(tmp_path, TOML))
    assert run(["alerts", "check", file]) == 0
    shown = capsys.readouterr().out
    assert "2 connections" in shown
    assert "note: webhook ops needs OPS_URL, which is not set here" in shown
    assert run(["alerts", "check", file, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["rules"][0]["thresholds"]["at_least"] == 12 * 3600
    assert run(["alerts", "run", file]) == 2
    assert "OPS_URL: is not set" in capsys.readouterr().err


def test_a_rule_of_each_kind_may_name_each_of_its_thresholds(tmp_path: Path) -> None:
    """With its default as people write it, it is the same rule."""
    units = {"span": lambda value: f'"{int(value // 60_000_000)}m"'}
    text = "\n".join(
        f'[[rules]]\nname = "{kind}"\nkind = "{kind}"\n'
        + "\n".join(
            f"{name} = {units.get(threshold.measure, lambda value: f'{value:g}')(threshold.default)}"
            for name, threshold in THRESHOLDS[kind].items()
        )
        for kind in RuleKind
    )
    bare = "\n".join(f'[[rules]]\nname = "{kind}"\nkind = "{kind}"' for kind in RuleKind)
    assert load(written(tmp_path, text)) == load(written(tmp_path, bare))


def test_without_a_file_it_says_which_setting_names_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["alerts", "test"]) == 2
    assert "name a file, or set JOBTRAIL_ALERT_RULES" in capsys.readouterr().err


@given(st.text(max_size=200), st.sampled_from([read_toml, read_yaml]))
def test_no_text_does_more_than_be_refused(text: str, reader: object) -> None:
    from jobtrail.consumers.alerts.positions import SyntaxProblemError
    from jobtrail.consumers.alerts.rule_file import parse

    try:
        document = reader(text)  # type: ignore[operator]  # one of two
        parse(document, "rules")
    except (SyntaxProblemError, UsageError):
        return
    raise AssertionError(text)
