-- Rows as a projector leaves them, for benchmarks: %(jobs)s jobs, %(apart)s seconds apart, of connections
-- with 1,000 jobs each, in turn; two attempts each, with five streams. Ids begin at 1. Runs in a generation's schema.

INSERT INTO jobs (
    job_id, created_at, created_event_id, config_type, config_id, connection_id, scope_type, scope_id, workspace_id,
    streams, first_seen_at, changed_at, log_partition, first_offset, last_offset, status, started_at, ended_at,
    records_emitted, bytes_emitted, records_committed, bytes_committed
)
SELECT
    id, at, gen_random_uuid(),
    CASE WHEN id %% 50 = 0 THEN 'reset_connection' WHEN id %% 50 = 1 THEN 'refresh' ELSE 'sync' END,
    connection, connection, 'workspace', workspace, workspace,
    (
        SELECT json_agg(json_build_object(
            'namespace', 'public', 'name', 'stream_' || n,
            'sync_mode', CASE n %% 2 WHEN 0 THEN 'incremental' ELSE 'full_refresh' END
        ))
        FROM generate_series(1, 5) n
    )::text,
    at, at + interval '5 minutes', id %% 12, id * 10, id * 10 + 9,
    CASE WHEN id %% 10 = 0 THEN 'failed' ELSE 'succeeded' END, at + interval '1 second', at + interval '5 minutes',
    -- Streams 2 and 4, and 1, which was resumed, count with both attempts; 3 and 5 with the last one.
    id %% 1000 * 800 + 22, id %% 1000 * 80000 + 22, id %% 1000 * 800, id %% 1000 * 80000
FROM generate_series(1, %(jobs)s) id
CROSS JOIN LATERAL (SELECT
    timestamptz '2025-01-01' + id * %(apart)s * interval '1 second' AS at,
    md5((id %% ceil(%(jobs)s / 1000.0)::int)::text)::uuid::text AS connection,
    md5('workspace ' || id %% ceil(%(jobs)s / 1000.0)::int / 10)::uuid::text AS workspace
) of_job
;
INSERT INTO attempts (
    job_id, attempt_number, started_at, started_event_id, worker, source_image, source_version, destination_image,
    destination_version, succeeded_at,
    succeeded_event_id, failed_at, failed_event_id, first_heard_at, last_heard_at, status, ended_at, failure_summary
)
SELECT
    id, n, at, gen_random_uuid(), 'worker-' || id %% 20,
    'airbyte/source-' || (ARRAY['postgres', 'mysql', 's3', 'stripe', 'hubspot', 'faker'])[1 + id %% 6], '3.6.' || id %% 4,
    'airbyte/destination-' || (ARRAY['bigquery', 'snowflake', 'postgres'])[1 + id %% 3], '2.9.0', CASE WHEN good THEN ended END, CASE WHEN good THEN gen_random_uuid() END,
    CASE WHEN NOT good THEN ended END, CASE WHEN NOT good THEN gen_random_uuid() END, at, ended,
    CASE WHEN good THEN 'succeeded' ELSE 'failed' END, ended,
    CASE WHEN NOT good THEN jsonb_build_object('partialSuccess', true, 'failures', jsonb_build_array(jsonb_build_object(
        'timestamp', extract(epoch FROM ended)::bigint * 1000,
        'failureOrigin', 'source',
        'failureType', 'system_error',
        'internalMessage', 'java.net.SocketTimeoutException: Read timed out',
        'externalMessage', 'Something went wrong within the source connector',
        'stacktrace', repeat('at some.place.of.the.Connector(Connector.java:1)' || chr(10), 20),
        'retryable', true
    ))) END
FROM generate_series(1, %(jobs)s) id
CROSS JOIN generate_series(0, 1) n
CROSS JOIN LATERAL (SELECT
    timestamptz '2025-01-01' + id * %(apart)s * interval '1 second' + n * interval '150 seconds' AS at,
    timestamptz '2025-01-01' + id * %(apart)s * interval '1 second' + (n + 1) * interval '150 seconds' AS ended,
    n = 1 AND id %% 10 <> 0 AS good
) of_attempt
;
INSERT INTO stream_stats (
    job_id, attempt_number, stream_namespace, stream_name, reporter, sequence, event_id, reported_at, records_emitted,
    bytes_emitted, state_messages_emitted, records_committed, bytes_committed
)
SELECT
    id, n, 'public', 'stream_' || s, 'platform', 1, gen_random_uuid(),
    timestamptz '2025-01-01' + id * %(apart)s * interval '1 second' + (n + 1) * interval '150 seconds',
    id %% 1000 * 100 + s, id %% 1000 * 10000 + s, 10, id %% 1000 * 100, id %% 1000 * 10000
FROM generate_series(1, %(jobs)s) id
CROSS JOIN generate_series(0, 1) n
CROSS JOIN generate_series(1, 5) s
;
INSERT INTO job_events (job_id, event_id, event_type, occurred_at, attempt_number, body, digest_low, digest_high, received_at)
SELECT
    id, gen_random_uuid(), kind, at, number,
    json_build_object('job_id', id, 'attempt_number', number, 'occurred_at', (extract(epoch FROM at) * 1000000)::bigint,
        'stream_namespace', 'public', 'stream_name', stream,
        'was_resumed', stream IS NOT NULL)::text,
    id, id, at
FROM generate_series(1, %(jobs)s) id
CROSS JOIN (VALUES
    ('JobCreated', NULL, NULL), ('AttemptStarted', 0, NULL), ('AttemptFailed', 0, NULL), ('AttemptStarted', 1, NULL),
    ('AttemptSucceeded', 1, NULL), ('StreamMetadata', 1, 'stream_1')
) kinds (kind, number, stream)
CROSS JOIN LATERAL (SELECT timestamptz '2025-01-01' + id * %(apart)s * interval '1 second' AS at) of_event
;
