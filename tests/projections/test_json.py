"""Bodies of events as JSON text."""

from __future__ import annotations

from typing import Any

import msgspec
from frames import frames_of
from hypothesis import given
from hypothesis import strategies as st

from jobtrail import events as e
from jobtrail.kinds import micros
from jobtrail.projections.fold import fold
from jobtrail.projections.fold_few import fold_few

NASTY: st.SearchStrategy[str] = st.text(max_size=6).filter(lambda text: "\0" not in text) | st.sampled_from(
    ['x","worker":null', ',"a":null', '{"a":null}', "[]", "\\", '\\"', "\u2028\n\r\t\x1f\x7f", ',"b":[]']
)


def known(value: Any) -> Any:
    """Without nulls and empty lists."""
    if isinstance(value, dict):
        return {key: known(part) for key, part in value.items() if part is not None and part != []}
    return [known(part) for part in value] if isinstance(value, list) else value


def json_text(value: Any) -> str:
    return msgspec.json.encode(known(value)).decode()


@given(
    st.builds(
        e.JobCreated,
        job_id=st.just(1),
        config_type=NASTY,
        config_id=NASTY,
        scope_id=st.none() | NASTY,
        workspace_id=st.none() | NASTY,
        streams=st.lists(
            st.builds(
                e.ConfiguredStream, namespace=st.none() | NASTY, name=NASTY, sync_mode=st.none() | NASTY
            ),
            max_size=2,
        ),
        labels=st.lists(st.builds(e.Label, key=NASTY, value=NASTY), max_size=2),
    )
)
def test_a_body_is_the_event_without_what_is_not_known(event: e.JobCreated) -> None:
    """As msgspec spells it: whatever texts hold, and to the byte, since digests are compared."""
    frames = frames_of([event])
    rows = fold(frames)
    few = fold_few({e.JobCreated: frames[e.JobCreated].to_dicts()})
    assert few["job_events"][0]["body"] == rows["job_events"]["body"][0]
    row = {**event.model_dump(), "occurred_at": micros(event.occurred_at)}
    assert rows["job_events"]["body"].to_list() == [json_text(row)]
    (job,) = rows["jobs"].iter_rows(named=True)
    for name in ("streams", "streams_to_reset", "streams_to_refresh", "labels"):
        assert job[name] == json_text(row[name])
