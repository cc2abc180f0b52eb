-- What readers see: stable names and columns in schema jobtrail, over the live generation. A swap of generations
-- replaces these. Columns are only ever added, at the end. Instants are UTC; ids of attempts are unique over all jobs.

CREATE OR REPLACE VIEW jobtrail.jobs AS
SELECT
    job_id,
    status,
    config_type,
    config_id,
    connection_id,
    scope_type,
    scope_id,
    -- The one that JobCreated carries; if none, that of the scope: an organization's is its only default one.
    coalesce(workspace_id, CASE scope_type
        WHEN 'workspace' THEN scope_id
        WHEN 'organization' THEN (
            SELECT CASE WHEN count(*) = 1 THEN min(w.workspace_id) END
            FROM workspaces w
            WHERE w.organization_id = jobs.scope_id AND w.is_default
        )
    END) AS workspace_id,
    coalesce(created_at, first_seen_at) AS created_at,
    started_at,
    ended_at,
    coalesce(changed_at, first_seen_at) AS updated_at,
    cancel_requested_at,
    cancel_requested_by,
    cancelled_by,
    coalesce(streams, '[]')::jsonb AS streams,
    coalesce(streams_to_reset, '[]')::jsonb AS streams_to_reset,
    coalesce(streams_to_refresh, '[]')::jsonb AS streams_to_refresh,
    coalesce(labels, '[]')::jsonb AS labels,
    log_partition,
    first_offset,
    last_offset,
    failure_reason,
    coalesce(successive_complete_failures, 0) AS successive_complete_failures,
    coalesce(total_complete_failures, 0) AS total_complete_failures,
    coalesce(successive_partial_failures, 0) AS successive_partial_failures,
    coalesce(total_partial_failures, 0) AS total_partial_failures,
    workspace_id AS given_workspace_id,
    records_emitted,
    bytes_emitted,
    records_committed,
    bytes_committed,
    records_rejected
FROM jobs
;
COMMENT ON VIEW jobtrail.jobs IS
'One row for each job. Its totals over all attempts are null until it has ended; see jobtrail.counted_streams.'
;
CREATE OR REPLACE VIEW jobtrail.counted_streams AS
SELECT
    job_id,
    attempt_number,
    nullif(stream_namespace, '') AS stream_namespace,
    stream_name,
    records_emitted,
    bytes_emitted,
    records_committed,
    bytes_committed,
    records_rejected,
    counts
FROM counted_streams
;
COMMENT ON VIEW jobtrail.counted_streams IS
'One row for each stream of an attempt, and whether its job''s totals count it: the sum over these is the job''s.'
;
CREATE OR REPLACE VIEW jobtrail.attempts AS
SELECT
    job_id * 1024 + attempt_number AS attempt_id,
    job_id,
    attempt_number,
    status,
    coalesce(started_at, first_heard_at) AS created_at,
    started_at,
    ended_at,
    last_heard_at AS updated_at,
    worker,
    dataplane,
    source_image,
    source_version,
    destination_image,
    destination_version,
    failure_summary,
    (failure_summary -> 'partialSuccess')::boolean AS partial_success,
    last_received_at
FROM attempts
;
COMMENT ON VIEW jobtrail.attempts IS 'One row for each attempt of a job; attempt_number counts from 0 within the job.'
;
CREATE OR REPLACE VIEW jobtrail.attempt_totals AS
SELECT
    job_id,
    attempt_number,
    records_emitted,
    bytes_emitted,
    state_messages_emitted,
    records_committed,
    bytes_committed,
    records_rejected,
    estimated_records,
    estimated_bytes
FROM attempt_totals
;
COMMENT ON VIEW jobtrail.attempt_totals IS 'Sums over the streams of an attempt; null: no stream knows.'
;
CREATE OR REPLACE VIEW jobtrail.stream_totals AS
SELECT
    job_id,
    attempt_number,
    nullif(stream_namespace, '') AS stream_namespace,
    stream_name,
    records_emitted,
    bytes_emitted,
    state_messages_emitted,
    records_committed,
    bytes_committed,
    records_rejected,
    estimated_records,
    estimated_bytes,
    reported_at
FROM stream_totals
;
COMMENT ON VIEW jobtrail.stream_totals IS 'One row for each stream of an attempt, from the reporter who knows best.'
;
CREATE OR REPLACE VIEW jobtrail.stream_stats AS
SELECT
    job_id,
    attempt_number,
    nullif(stream_namespace, '') AS stream_namespace,
    stream_name,
    reporter,
    reported_at,
    records_emitted,
    bytes_emitted,
    state_messages_emitted,
    records_committed,
    bytes_committed,
    records_rejected,
    estimated_records,
    estimated_bytes
FROM stream_stats
;
COMMENT ON VIEW jobtrail.stream_stats IS 'One row for each stream of an attempt and reporter: its newest counters.'
;
CREATE OR REPLACE VIEW jobtrail.stream_reconciliation AS
SELECT
    job_id,
    attempt_number,
    nullif(stream_namespace, '') AS stream_namespace,
    stream_name,
    source_records_emitted,
    platform_records_emitted,
    platform_records_committed,
    destination_records_committed,
    coalesce(differs, false) AS differs
FROM stream_reconciliation
;
COMMENT ON VIEW jobtrail.stream_reconciliation IS
'One row for each stream of an attempt that two or more reporters counted: what each says, and whether they differ.'
;
CREATE OR REPLACE VIEW jobtrail.stream_statuses AS
SELECT
    job_id,
    attempt_number,
    nullif(stream_namespace, '') AS stream_namespace,
    stream_name,
    run_state,
    transitioned_at,
    incomplete_run_cause,
    quota_reset_at,
    event_id
FROM stream_statuses
;
COMMENT ON VIEW jobtrail.stream_statuses IS 'The latest time that a stream of an attempt entered each run state.'
;
CREATE OR REPLACE VIEW jobtrail.job_events AS
SELECT
    job_id,
    attempt_number,
    event_type,
    occurred_at,
    event_id,
    body::jsonb AS body,
    received_at
FROM job_events
;
COMMENT ON VIEW jobtrail.job_events IS 'The events of a job as they happened, but for stats, statuses and heartbeats.'
;
CREATE OR REPLACE VIEW jobtrail.anomalies AS
SELECT
    job_id,
    nullif(attempt_number, -1) AS attempt_number,
    kind,
    detail
FROM anomalies
;
COMMENT ON VIEW jobtrail.anomalies IS 'Contradictions between events; without an attempt number: of the job.'
;
CREATE OR REPLACE VIEW jobtrail.workspaces AS
SELECT workspace_id, organization_id, is_default, name, registered_at
FROM workspaces
;
COMMENT ON VIEW jobtrail.workspaces IS 'The newest facts about each workspace.'
;
CREATE OR REPLACE VIEW jobtrail.heartbeats AS
SELECT dataplane_id, heard_at, dataplane_version, received_at
FROM heartbeats
;
COMMENT ON VIEW jobtrail.heartbeats IS 'Signs of life of dataplanes: by their clock, and when the broker took them.'
;
CREATE OR REPLACE VIEW jobtrail.dataplanes AS
SELECT dataplane_id, last_received_at, dataplane_version
FROM dataplanes
;
COMMENT ON VIEW jobtrail.dataplanes IS 'Each dataplane once: when the broker took its last sign of life, and its version.'
;
CREATE OR REPLACE VIEW jobtrail.window_parts AS
SELECT
    window_id,
    measure,
    window_type,
    starts_at,
    ends_at,
    log_partition,
    sequence,
    computed_at,
    connection_id,
    connector_role,
    connector,
    failure_origin,
    failure_type,
    nullif(stream_namespace, '') AS stream_namespace,
    stream_name,
    attempts_succeeded,
    attempts_failed,
    attempts_cancelled,
    attempts_timed,
    duration_ms,
    longest_ms,
    records_emitted,
    bytes_emitted,
    records_committed,
    bytes_committed,
    streams_stalled,
    messages_refused
FROM windows
;
COMMENT ON VIEW jobtrail.window_parts IS
'What each partition of the log adds to each window of event time, as the newest WindowComputed says.'
;
CREATE OR REPLACE VIEW jobtrail.windows AS
SELECT
    measure,
    window_type,
    starts_at,
    ends_at,
    connection_id,
    connector_role,
    connector,
    failure_origin,
    failure_type,
    stream_namespace,
    stream_name,
    sum(attempts_succeeded)::bigint AS attempts_succeeded,
    sum(attempts_failed)::bigint AS attempts_failed,
    sum(attempts_cancelled)::bigint AS attempts_cancelled,
    CASE WHEN measure <> 'failures' THEN
        sum(attempts_failed)::double precision / nullif(sum(attempts_succeeded) + sum(attempts_failed), 0)
    END AS failure_rate,
    sum(attempts_timed)::bigint AS attempts_timed,
    sum(duration_ms)::bigint AS duration_ms,
    (sum(duration_ms) / nullif(sum(attempts_timed), 0))::double precision AS average_ms,
    max(longest_ms) AS longest_ms,
    sum(records_emitted) AS records_emitted,
    sum(bytes_emitted) AS bytes_emitted,
    sum(records_committed) AS records_committed,
    sum(bytes_committed) AS bytes_committed,
    sum(streams_stalled)::bigint AS streams_stalled,
    sum(messages_refused)::bigint AS messages_refused,
    max(computed_at) AS computed_at
FROM jobtrail.window_parts
-- What has come to nothing again (a late JobCreated moves counts to its connection) is no row.
WHERE num_nonnulls(
    nullif(attempts_succeeded, 0), nullif(attempts_failed, 0), nullif(attempts_cancelled, 0),
    nullif(records_emitted, 0), nullif(bytes_emitted, 0), nullif(records_committed, 0),
    nullif(bytes_committed, 0), nullif(streams_stalled, 0), nullif(messages_refused, 0)
) > 0
GROUP BY
    measure, window_type, starts_at, ends_at, connection_id, connector_role, connector, failure_origin,
    failure_type, stream_namespace, stream_name
;
COMMENT ON VIEW jobtrail.windows IS
'Windows of event time: one row for each measure, window and what it is about, over all partitions of the log.'
;
CREATE OR REPLACE VIEW jobtrail.failure_rates AS
SELECT
    f.window_type,
    f.starts_at,
    f.ends_at,
    f.connector_role,
    f.connector,
    f.failure_origin,
    f.failure_type,
    f.attempts_failed,
    c.attempts_succeeded + c.attempts_failed AS attempts_ended,
    f.attempts_failed::double precision / nullif(c.attempts_succeeded + c.attempts_failed, 0) AS failure_rate
FROM jobtrail.windows f
JOIN jobtrail.windows c
    ON c.measure = 'connectors'
    AND (c.window_type, c.starts_at, c.ends_at, c.connector_role)
        = (f.window_type, f.starts_at, f.ends_at, f.connector_role)
    AND c.connector IS NOT DISTINCT FROM f.connector
WHERE f.measure = 'failures'
;
COMMENT ON VIEW jobtrail.failure_rates IS
'Of the attempts with a connector that ended in a window, the share that failed by each origin and type; cancelled ones count nowhere.'
;
