-- Sums are taken when they are read, by key: nothing to keep in step, and no second row to write for a StreamStats.

-- One row for each stream of an attempt. What reporters disagree on is taken from the first who knows:
-- emitted from the platform, else the source; committed from the platform, else the destination.
CREATE VIEW stream_totals AS
SELECT
    job_id,
    attempt_number,
    stream_namespace,
    stream_name,
    coalesce(
        max(records_emitted) FILTER (WHERE reporter = 'platform'),
        max(records_emitted) FILTER (WHERE reporter = 'source'),
        max(records_emitted)
    ) AS records_emitted,
    coalesce(
        max(bytes_emitted) FILTER (WHERE reporter = 'platform'),
        max(bytes_emitted) FILTER (WHERE reporter = 'source'),
        max(bytes_emitted)
    ) AS bytes_emitted,
    coalesce(
        max(state_messages_emitted) FILTER (WHERE reporter = 'platform'),
        max(state_messages_emitted) FILTER (WHERE reporter = 'source'),
        max(state_messages_emitted)
    ) AS state_messages_emitted,
    coalesce(
        max(records_committed) FILTER (WHERE reporter = 'platform'),
        max(records_committed) FILTER (WHERE reporter = 'destination'),
        max(records_committed)
    ) AS records_committed,
    coalesce(
        max(bytes_committed) FILTER (WHERE reporter = 'platform'),
        max(bytes_committed) FILTER (WHERE reporter = 'destination'),
        max(bytes_committed)
    ) AS bytes_committed,
    coalesce(
        max(records_rejected) FILTER (WHERE reporter = 'platform'),
        max(records_rejected) FILTER (WHERE reporter = 'destination'),
        max(records_rejected)
    ) AS records_rejected,
    coalesce(
        max(estimated_records) FILTER (WHERE reporter = 'platform'),
        max(estimated_records) FILTER (WHERE reporter = 'source'),
        max(estimated_records)
    ) AS estimated_records,
    coalesce(
        max(estimated_bytes) FILTER (WHERE reporter = 'platform'),
        max(estimated_bytes) FILTER (WHERE reporter = 'source'),
        max(estimated_bytes)
    ) AS estimated_bytes,
    max(reported_at) AS reported_at
FROM stream_stats
GROUP BY job_id, attempt_number, stream_namespace, stream_name;

-- One row for each attempt with stats; a counter that no stream knows is null.
CREATE VIEW attempt_totals AS
SELECT
    job_id,
    attempt_number,
    sum(records_emitted) AS records_emitted,
    sum(bytes_emitted) AS bytes_emitted,
    sum(state_messages_emitted) AS state_messages_emitted,
    sum(records_committed) AS records_committed,
    sum(bytes_committed) AS bytes_committed,
    sum(records_rejected) AS records_rejected,
    sum(estimated_records) AS estimated_records,
    sum(estimated_bytes) AS estimated_bytes
FROM stream_totals
GROUP BY job_id, attempt_number;
