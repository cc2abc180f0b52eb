-- What a job moved over all its attempts, kept on its row once it has ended: from then on every event of it has it
-- derived anew, and nothing is written for a StreamStats of an attempt that runs. A month's sums need no stream then.

-- One row for each stream of an attempt, and whether its job's totals count it. Those of an incremental stream count
-- with all its attempts; those of a full refresh with its last one and, going back, with those that each next one
-- resumed (StreamMetadata.was_resumed). "Last" and "next" are among the attempts that have counters of the stream.
-- The same as `counted` in jobtrail/api/queries.sql, which is written for lists of jobs.
CREATE VIEW counted_streams AS
SELECT
    t.*,
    NOT coalesce(m.full_refresh, false) OR coalesce(
        bool_and(coalesce(d.was_resumed, false)) OVER (
            PARTITION BY t.job_id, t.stream_namespace, t.stream_name
            ORDER BY t.attempt_number DESC
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ),
        true
    ) AS counts
FROM stream_totals t
LEFT JOIN (
    SELECT
        j.job_id,
        coalesce(s.namespace, '') AS stream_namespace,
        s.name AS stream_name,
        bool_and(s.sync_mode = 'full_refresh') AS full_refresh
    FROM jobs j
    CROSS JOIN LATERAL jsonb_to_recordset(coalesce(j.streams, '[]')::jsonb)
        AS s (namespace text, name text, sync_mode text)
    GROUP BY j.job_id, coalesce(s.namespace, ''), s.name
) m USING (job_id, stream_namespace, stream_name)
LEFT JOIN (
    SELECT DISTINCT ON (job_id, attempt_number, stream_namespace, stream_name)
        job_id,
        attempt_number,
        coalesce(b.body ->> 'stream_namespace', '') AS stream_namespace,
        b.body ->> 'stream_name' AS stream_name,
        (b.body ->> 'was_resumed')::boolean AS was_resumed
    FROM job_events
    CROSS JOIN LATERAL (SELECT body::jsonb AS body OFFSET 0) b
    WHERE event_type = 'StreamMetadata'
    ORDER BY job_id, attempt_number, stream_namespace, stream_name, occurred_at DESC, event_id DESC
) d USING (job_id, attempt_number, stream_namespace, stream_name);

ALTER TABLE jobs
    ADD COLUMN records_emitted numeric,
    ADD COLUMN bytes_emitted numeric,
    ADD COLUMN records_committed numeric,
    ADD COLUMN bytes_committed numeric,
    ADD COLUMN records_rejected numeric;

UPDATE jobs j
SET records_emitted = t.records_emitted, bytes_emitted = t.bytes_emitted,
    records_committed = t.records_committed, bytes_committed = t.bytes_committed, records_rejected = t.records_rejected
FROM jobs e
CROSS JOIN LATERAL (
    SELECT
        sum(c.records_emitted) AS records_emitted,
        sum(c.bytes_emitted) AS bytes_emitted,
        sum(c.records_committed) AS records_committed,
        sum(c.bytes_committed) AS bytes_committed,
        sum(c.records_rejected) AS records_rejected
    FROM counted_streams c
    WHERE c.job_id = e.job_id AND c.counts
) t
WHERE j.job_id = e.job_id AND e.ended_at IS NOT NULL;

-- Days are those of UTC. Equal keys are stored once, so a range of days is a small part of a small index.
CREATE INDEX jobs_by_day ON jobs (((coalesce(created_at, first_seen_at) AT TIME ZONE 'UTC')::date));
