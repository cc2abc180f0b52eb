"""What docs/alerts.md shows is what there is: rules load, tables are the declaration's, SQL and code run."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import psycopg
import pytest
from webhook_receiver import HOOK, SECRET, receiving

from jobtrail.consumers.alerts.rule_file import load
from jobtrail.consumers.alerts.rules import DAY, HOUR, MINUTE, THRESHOLDS, RuleKind, Threshold
from jobtrail.consumers.alerts.webhook import post, target

PAGE = (Path(__file__).parent.parent / "docs" / "alerts.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    found = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    assert found
    return found


@pytest.mark.parametrize("suffix", ["toml", "yaml"])
def test_every_file_of_rules_there_is_right(suffix: str, tmp_path: Path) -> None:
    for number, text in enumerate(blocks(suffix)):
        file = tmp_path / f"{number}.{suffix}"
        file.write_text(text, "utf-8")
        assert load(file).rules


@pytest.mark.parametrize("kind", RuleKind)
def test_each_kind_has_an_example_and_its_thresholds(kind: RuleKind, tmp_path: Path) -> None:
    section = PAGE.partition(f"### {kind}\n")[2].partition("\n### ")[0].partition("\nHow well")[0]
    file = tmp_path / "rules.toml"
    file.write_text(re.findall(r"```toml\n(.*?)```", section, re.DOTALL)[0])
    assert [rule.kind for rule in load(file).rules] == [kind]
    rows = re.findall(r"^\| `(\w+)` \| `(.+)` \| (.+) \|$", section, re.MULTILINE)
    assert rows == [
        (name, shown(threshold), threshold.meaning) for name, threshold in THRESHOLDS[kind].items()
    ]


def shown(threshold: Threshold) -> str:
    if threshold.measure != "span":
        return f"{threshold.default:g}"
    unit, size = next(
        (unit, size)
        for unit, size in (("d", DAY), ("h", HOUR), ("m", MINUTE))
        if threshold.default % size == 0
    )
    return f'"{threshold.default // size:g}{unit}"'


def test_every_query_there_runs(database: str) -> None:
    (text,) = blocks("sql")
    with psycopg.connect(database) as connection:
        for query in filter(str.strip, text.split(";")):
            assert connection.execute(query.encode()).fetchall() == []


def test_the_check_of_a_signature_there_tells_ours_from_others() -> None:
    (code,) = blocks("python")
    names: dict[str, Any] = {}
    exec(code, names)  # noqa: S102  # the page's own
    with receiving() as receiver:
        post(target(HOOK, {"OPS_URL": receiver.url, "OPS_SECRET": SECRET}), "a", {"detail": "é"})
        ((headers, body),) = receiver.heard
    assert names["verified"](headers, body, b"a key of the receiver")
    assert not names["verified"](headers, body + b" ", b"a key of the receiver")
    assert not names["verified"](headers, body, b"another key")
    assert set(json.loads(body)) == {"detail"}
