"""Apache Avro's own Java decoder reads what we produce, with nothing but the files in avro/."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest
from conftest import CACHE
from samples import one_of_each

from jobtrail import codec
from jobtrail.embedded import java
from jobtrail.embedded.account import Account
from jobtrail.embedded.jars import Lock, class_path
from jobtrail.kinds import micros
from jobtrail.schemas import SCHEMAS

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def java_library() -> Path:
    program, _ = java.find(Account.choose(), CACHE)
    home = program.resolve().parent.parent
    (library,) = [*home.glob("lib/server/libjvm.*"), *home.glob("lib/*/server/libjvm.*")][:1]
    return library


def test_java_reads_every_event_type(java_library: Path) -> None:
    lock = Lock.read((HERE / "avro.lock").read_text())
    jars = class_path(lock, CACHE / "tests", lambda _: None)
    events = one_of_each()
    ran = subprocess.run(
        [
            *(sys.executable, "-W", "ignore", str(HERE / "java_reader.py")),
            *(str(java_library), ":".join(map(str, jars)), str(SCHEMAS)),
        ],
        input=json.dumps([base64.b64encode(codec.encode(event)).decode() for event in events]),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    for event, (name, text) in zip(events, json.loads(ran.stdout), strict=True):
        row = json.loads(text)
        assert name == f"jobtrail.{type(event).__name__}"
        assert row["event_id"] == event.event_id
        assert row.keys() == type(event).model_fields.keys()
        for field, value in event.model_dump(exclude={"event_id", "occurred_at", "quota_reset_at"}).items():
            assert row[field] == (micros(value) if isinstance(value, datetime) else value), field
        shown = row["occurred_at"]
        assert shown == micros(event.occurred_at) or str(event.occurred_at.year) in str(shown)
