-- job: One job.
SELECT {job_columns}, {stream_columns}
FROM jobtrail.jobs
WHERE job_id = %(job_id)s
;
-- job_light: One job with its totals over all streams, in one statement: one snapshot, one way to Postgres and back.
SELECT {job_columns}, totals.*
FROM jobtrail.jobs
LEFT JOIN (
    SELECT
        job_id AS counted_job_id,
        sum(records_emitted) AS records_emitted,
        sum(bytes_emitted) AS bytes_emitted,
        sum(state_messages_emitted) AS state_messages_emitted,
        sum(records_committed) AS records_committed,
        sum(bytes_committed) AS bytes_committed,
        sum(records_rejected) AS records_rejected
    FROM ({counted}) c
    WHERE counts
    GROUP BY job_id
) totals ON counted_job_id = job_id
WHERE job_id = %(job_id)s
;
-- jobs_page: The jobs that match, a page of them. The order is one of queries.ORDERS.
SELECT {job_columns}, {stream_columns}
FROM jobtrail.jobs
WHERE {filters}
ORDER BY {order}
LIMIT %(limit)s OFFSET %(offset)s
;
-- jobs_count: How many jobs match, exactly.
SELECT count(*) AS jobs FROM jobtrail.jobs WHERE {filters}
;
-- job_place: At which place, from 1, a job stands among those that match; no row where it does not match.
SELECT place
FROM (
    SELECT job_id, row_number() OVER (ORDER BY {order}) AS place FROM jobtrail.jobs WHERE {filters}
) matching
WHERE job_id = %(including_job_id)s
;
-- job_columns: Part of job and jobs_page: what is read of a job.
job_id, coalesce(status, 'pending') AS status, coalesce(config_type, 'sync') AS config_type,
coalesce(config_id, '') AS config_id, connection_id, workspace_id, created_at, started_at, ended_at, updated_at,
cancel_requested_at, cancel_requested_by, cancelled_by,
streams_to_reset, failure_reason,
(SELECT array_agg(DISTINCT n.kind ORDER BY n.kind) FROM jobtrail.anomalies n WHERE n.job_id = jobs.job_id) AS anomalies
;
-- stream_columns: Part of job and jobs_page: what may be long.
streams, streams_to_refresh
;
-- config_types: Filter. One that is not given is left out, so that Postgres plans for those that are. Columns stand
-- bare, or as in an index: Postgres knows how many rows a value of a column has, not one of coalesce.
config_type = ANY (%(config_types)s::text[]) OR (config_type IS NULL AND 'sync' = ANY (%(config_types)s::text[]))
;
-- config_id: Filter.
config_id = %(config_id)s
;
-- connection_id: Filter.
connection_id = %(connection_id)s
;
-- workspace_ids: Filter, by index: the scope narrows down those whose creation named no workspace, then the view's
-- resolved workspace decides.
(
    given_workspace_id = ANY (%(workspace_ids)s::text[])
    OR (
        given_workspace_id IS NULL
        AND scope_id = ANY (%(workspace_ids)s::text[] || ARRAY(
            SELECT w.organization_id FROM jobtrail.workspaces w WHERE w.workspace_id = ANY (%(workspace_ids)s::text[])
        ))
        AND workspace_id = ANY (%(workspace_ids)s::text[])
    )
)
;
-- statuses: Filter.
status = ANY (%(statuses)s::text[]) OR (status IS NULL AND 'pending' = ANY (%(statuses)s::text[]))
;
-- not_statuses: Filter.
status <> ALL (%(not_statuses)s::text[]) OR (status IS NULL AND 'pending' <> ALL (%(not_statuses)s::text[]))
;
-- failure_origin: Filter.
failure_reason ->> 'failureOrigin' = %(failure_origin)s
;
-- created_from: Filter.
created_at >= %(created_from)s
;
-- created_to: Filter.
created_at <= %(created_to)s
;
-- updated_from: Filter.
updated_at >= %(updated_from)s
;
-- updated_to: Filter.
updated_at <= %(updated_to)s
;
-- after: Filter: those that come after a place in the order.
{after} (%(after)s::timestamptz, %(after_id)s::bigint)
;
-- attempts: All attempts of some jobs, by number.
SELECT
    job_id, attempt_id, attempt_number, coalesce(status, 'running') AS status, created_at, started_at, ended_at,
    updated_at, worker, dataplane, source_image, source_version, destination_image, destination_version,
    failure_summary,
    (
        SELECT array_agg(n.kind ORDER BY n.kind)
        FROM jobtrail.anomalies n
        WHERE n.job_id = attempts.job_id AND n.attempt_number = attempts.attempt_number
    ) AS anomalies
FROM jobtrail.attempts
WHERE job_id = ANY (%(job_ids)s::bigint[])
ORDER BY job_id, attempt_number
;
-- streams: The counters of every stream of every attempt of some jobs, and whether its job's totals count them.
SELECT * FROM ({counted}) c ORDER BY job_id, attempt_number, stream_namespace NULLS FIRST, stream_name
;
-- differences: Streams of a job that reporters count differently, by attempt.
SELECT
    attempt_number, stream_namespace, stream_name, source_records_emitted, platform_records_emitted,
    platform_records_committed, destination_records_committed
FROM jobtrail.stream_reconciliation
WHERE job_id = %(job_id)s::bigint AND differs
;
-- counted: Part of job_light and streams: which counters a job's totals count. Those of an incremental stream with all
-- its attempts; those of a full refresh with its last one and, going back, with those that each next one resumed
-- (StreamMetadata.was_resumed). A stream whose sync mode JobCreated does not say counts with all its attempts.
-- "Last" and "next" are among the attempts that have counters of the stream: one that has counted nothing yet takes
-- no part, so that the total of a full refresh stays as it was while a new attempt starts, instead of dropping to
-- nothing.
WITH modes AS (
    SELECT DISTINCT ON (j.job_id, stream_namespace, stream_name)
        j.job_id,
        coalesce(s.stream ->> 'namespace', '') AS stream_namespace,
        s.stream ->> 'name' AS stream_name,
        s.stream ->> 'sync_mode' = 'full_refresh' AS full_refresh
    FROM jobtrail.jobs j
    CROSS JOIN LATERAL jsonb_array_elements(j.streams) AS s (stream)
    WHERE j.job_id {which}
    ORDER BY j.job_id, stream_namespace, stream_name, full_refresh
),
metadata AS (
    SELECT DISTINCT ON (job_id, attempt_number, stream_namespace, stream_name)
        job_id,
        attempt_number,
        coalesce(body ->> 'stream_namespace', '') AS stream_namespace,
        body ->> 'stream_name' AS stream_name,
        (body ->> 'was_resumed')::boolean AS was_resumed,
        (body ->> 'was_backfilled')::boolean AS was_backfilled
    FROM jobtrail.job_events
    WHERE job_id {which} AND event_type = 'StreamMetadata'
    ORDER BY job_id, attempt_number, stream_namespace, stream_name, occurred_at DESC, event_id DESC
)
SELECT
    t.job_id, t.attempt_number, t.stream_namespace, t.stream_name,
    t.records_emitted, t.bytes_emitted, t.state_messages_emitted, t.records_committed, t.bytes_committed,
    t.records_rejected, t.estimated_records, t.estimated_bytes,
    d.was_resumed, d.was_backfilled,
    NOT coalesce(m.full_refresh, false) OR coalesce(
        bool_and(coalesce(d.was_resumed, false)) OVER (
            PARTITION BY t.job_id, t.stream_namespace, t.stream_name
            ORDER BY t.attempt_number DESC
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ),
        true
    ) AS counts
FROM jobtrail.stream_totals t
LEFT JOIN modes m
    ON m.job_id = t.job_id
    AND m.stream_name = t.stream_name
    AND m.stream_namespace = coalesce(t.stream_namespace, '')
LEFT JOIN metadata d
    ON d.job_id = t.job_id
    AND d.attempt_number = t.attempt_number
    AND d.stream_name = t.stream_name
    AND d.stream_namespace = coalesce(t.stream_namespace, '')
WHERE t.job_id {which}
;
-- stream_states: What every stream of a job did last, by attempt.
SELECT DISTINCT ON (attempt_number, stream_namespace, stream_name)
    attempt_number, stream_namespace, stream_name, run_state, incomplete_run_cause
FROM jobtrail.stream_statuses
WHERE job_id = %(job_id)s::bigint
ORDER BY attempt_number, stream_namespace, stream_name, transitioned_at DESC, event_id DESC
;
-- checkpoints: How far the live generation has folded a topic: partition, next offset.
SELECT log_partition, next_offset
FROM jobtrail.checkpoints
JOIN jobtrail.current_generation USING (generation)
WHERE projection_set = 'core' AND topic_id = %(topic_id)s
;
-- is_folded: A row where the live generation holds a message of the log; whichever id its topic has.
SELECT true AS folded
FROM jobtrail.checkpoints JOIN jobtrail.current_generation USING (generation)
WHERE projection_set = 'core' AND topic = %(topic)s AND log_partition = %(partition)s AND next_offset > %(offset)s
;
-- migration_tables: Schemas of ours that say what was applied to them: the control tables' and the live generation's.
SELECT t.schemaname AS schema
FROM pg_tables t
JOIN jobtrail.current_generation g ON t.schemaname IN ('jobtrail', 'jobtrail_g' || g.generation)
WHERE t.tablename = '_yoyo_migration'
;
-- applied_migrations: What was applied to one schema of ours, whose name is put in: it comes from migration_tables.
SELECT migration_id FROM {schema}._yoyo_migration
;
