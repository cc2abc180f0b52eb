-- SQL for analysts: schema jobtrail_analytics, described in docs/sql.md. Names and columns are a contract: columns are
-- only ever added, at the end. These views stand on those of schema jobtrail (views.sql), so a swap of generations
-- does not touch them.
-- A job, with all its attempts, belongs to the UTC day on which it was created: `day` is in every view, and a range of
-- days is read by index. LATERAL … OFFSET 0 keeps it so: what belongs to a job is read by the job's id, whatever
-- Postgres thinks of it; a join it would turn into a scan of all stream stats.

CREATE OR REPLACE VIEW jobtrail_analytics.job_runs AS
SELECT
    j.job_id,
    (j.created_at AT TIME ZONE 'UTC')::date AS day,
    j.workspace_id,
    j.connection_id,
    coalesce(j.config_type, 'sync') AS config_type,
    coalesce(j.status, 'pending') AS status,
    j.created_at,
    j.started_at,
    j.ended_at,
    date_part('epoch', j.started_at - j.created_at) AS waiting_seconds,
    date_part('epoch', j.ended_at - j.started_at) AS duration_seconds,
    tried.attempts,
    j.total_complete_failures + j.total_partial_failures AS failed_attempts,
    coalesce(j.records_emitted, so_far.records_emitted) AS records_emitted,
    coalesce(j.bytes_emitted, so_far.bytes_emitted) AS bytes_emitted,
    coalesce(j.records_committed, so_far.records_committed) AS records_committed,
    coalesce(j.bytes_committed, so_far.bytes_committed) AS bytes_committed,
    coalesce(j.records_rejected, so_far.records_rejected) AS records_rejected,
    j.failure_reason ->> 'failureOrigin' AS failure_origin,
    j.failure_reason ->> 'failureType' AS failure_type,
    j.failure_reason ->> 'externalMessage' AS failure_message,
    (j.failure_reason -> 'retryable')::boolean AS failure_retryable,
    j.cancelled_by,
    j.labels
FROM jobtrail.jobs j
LEFT JOIN LATERAL (
    SELECT count(*) AS attempts FROM jobtrail.attempts a WHERE a.job_id = j.job_id
) tried ON true
-- Of a job that has not ended: its row has no totals yet.
LEFT JOIN LATERAL (
    SELECT
        sum(c.records_emitted) AS records_emitted,
        sum(c.bytes_emitted) AS bytes_emitted,
        sum(c.records_committed) AS records_committed,
        sum(c.bytes_committed) AS bytes_committed,
        sum(c.records_rejected) AS records_rejected
    FROM jobtrail.counted_streams c
    WHERE c.job_id = j.job_id AND c.counts AND j.ended_at IS NULL
) so_far ON true
;
COMMENT ON VIEW jobtrail_analytics.job_runs IS
'One row for each job: how it ended, how long it took, what it moved over all its attempts, why it failed.';
COMMENT ON COLUMN jobtrail_analytics.job_runs.job_id IS 'The job.';
COMMENT ON COLUMN jobtrail_analytics.job_runs.day IS 'UTC day on which the job was created; a range of days is read by index.';
COMMENT ON COLUMN jobtrail_analytics.job_runs.workspace_id IS 'Workspace, resolved from the scope where the job names none.';
COMMENT ON COLUMN jobtrail_analytics.job_runs.connection_id IS 'Connection; null: a job of none, such as a check.';
COMMENT ON COLUMN jobtrail_analytics.job_runs.config_type IS 'sync, reset_connection, refresh, clear, check_connection_source, discover_schema, …';
COMMENT ON COLUMN jobtrail_analytics.job_runs.status IS 'pending, running, incomplete (a retry may come), succeeded, failed or cancelled.';
COMMENT ON COLUMN jobtrail_analytics.job_runs.created_at IS 'When the job was created; a range is read by index.';
COMMENT ON COLUMN jobtrail_analytics.job_runs.started_at IS 'When its first attempt started; null: none has.';
COMMENT ON COLUMN jobtrail_analytics.job_runs.ended_at IS 'When it was decided; null: it has not ended.';
COMMENT ON COLUMN jobtrail_analytics.job_runs.waiting_seconds IS 'From its creation to the start of its first attempt.';
COMMENT ON COLUMN jobtrail_analytics.job_runs.duration_seconds IS 'From the start of its first attempt to its end, waits between attempts included; null: not ended.';
COMMENT ON COLUMN jobtrail_analytics.job_runs.attempts IS 'Number of its attempts.';
COMMENT ON COLUMN jobtrail_analytics.job_runs.failed_attempts IS 'Attempts that failed; a cancelled one is none.';
COMMENT ON COLUMN jobtrail_analytics.job_runs.records_emitted IS 'Records given by the source, over all attempts that count: of a full refresh the last one and those that it resumed.';
COMMENT ON COLUMN jobtrail_analytics.job_runs.bytes_emitted IS 'Bytes of these.';
COMMENT ON COLUMN jobtrail_analytics.job_runs.records_committed IS 'Records confirmed by the destination, over the same attempts; null: nobody counted.';
COMMENT ON COLUMN jobtrail_analytics.job_runs.bytes_committed IS 'Bytes of these.';
COMMENT ON COLUMN jobtrail_analytics.job_runs.records_rejected IS 'Records that the destination refused.';
COMMENT ON COLUMN jobtrail_analytics.job_runs.failure_origin IS 'Whose fault: source, destination, replication, persistence, airbyte_platform, …; null: it did not fail, or nobody said. Always null for a cancellation.';
COMMENT ON COLUMN jobtrail_analytics.job_runs.failure_type IS 'config_error, system_error, transient_error, heartbeat_timeout, manual_cancellation, …';
COMMENT ON COLUMN jobtrail_analytics.job_runs.failure_message IS 'What users are told (the external message, else the internal one), at most 120 characters; attempt_failures has all of it.';
COMMENT ON COLUMN jobtrail_analytics.job_runs.failure_retryable IS 'Whether trying again may help; null: not known.';
COMMENT ON COLUMN jobtrail_analytics.job_runs.cancelled_by IS 'Who cancelled the whole job.';
COMMENT ON COLUMN jobtrail_analytics.job_runs.labels IS 'The caller''s own labels: [{"key": …, "value": …}].';
;
CREATE OR REPLACE VIEW jobtrail_analytics.attempt_failures AS
SELECT
    a.attempt_id,
    j.job_id,
    a.attempt_number,
    a.number AS failure_number,
    (j.created_at AT TIME ZONE 'UTC')::date AS day,
    j.created_at AS job_created_at,
    j.workspace_id,
    j.connection_id,
    coalesce(j.config_type, 'sync') AS config_type,
    coalesce(j.status, 'pending') AS job_status,
    coalesce(a.status, 'running') AS attempt_status,
    a.created_at AS attempt_started_at,
    timestamptz 'epoch' + (a.reason ->> 'timestamp')::bigint * interval '1 millisecond' AS failed_at,
    a.reason ->> 'failureOrigin' AS failure_origin,
    a.reason ->> 'failureType' AS failure_type,
    a.reason ->> 'externalMessage' AS external_message,
    a.reason ->> 'internalMessage' AS internal_message,
    a.reason ->> 'stacktrace' AS stacktrace,
    (a.reason -> 'retryable')::boolean AS retryable,
    a.reason #>> '{streamDescriptor,namespace}' AS stream_namespace,
    a.reason #>> '{streamDescriptor,name}' AS stream_name,
    a.partial_success,
    a.source_image,
    a.source_version,
    a.destination_image,
    a.destination_version,
    a.dataplane
FROM jobtrail.jobs j
CROSS JOIN LATERAL (
    SELECT a.*, failed.reason, failed.number
    FROM jobtrail.attempts a
    CROSS JOIN LATERAL jsonb_array_elements(a.failure_summary -> 'failures') WITH ORDINALITY AS failed (reason, number)
    WHERE a.job_id = j.job_id
    OFFSET 0
) a
;
COMMENT ON VIEW jobtrail_analytics.attempt_failures IS
'One row for each failure reason of an attempt, cancellations among them (type manual_cancellation). An attempt may have several, and one that succeeded may have some of single streams.';
COMMENT ON COLUMN jobtrail_analytics.attempt_failures.attempt_id IS 'Id of the attempt, unique over all jobs: job_id * 1024 + attempt_number.';
COMMENT ON COLUMN jobtrail_analytics.attempt_failures.job_id IS 'The job.';
COMMENT ON COLUMN jobtrail_analytics.attempt_failures.attempt_number IS 'Number of the attempt within its job, from 0; not its id.';
COMMENT ON COLUMN jobtrail_analytics.attempt_failures.failure_number IS 'Which of the attempt''s failures, from 1, by time.';
COMMENT ON COLUMN jobtrail_analytics.attempt_failures.day IS 'UTC day on which the job was created; a range of days is read by index.';
COMMENT ON COLUMN jobtrail_analytics.attempt_failures.job_created_at IS 'When the job was created; a range is read by index.';
COMMENT ON COLUMN jobtrail_analytics.attempt_failures.workspace_id IS 'Workspace of the job.';
COMMENT ON COLUMN jobtrail_analytics.attempt_failures.connection_id IS 'Connection of the job.';
COMMENT ON COLUMN jobtrail_analytics.attempt_failures.config_type IS 'Kind of the job: sync, refresh, ….';
COMMENT ON COLUMN jobtrail_analytics.attempt_failures.job_status IS 'How the job stands: one that failed at first may have succeeded.';
COMMENT ON COLUMN jobtrail_analytics.attempt_failures.attempt_status IS 'running, failed or succeeded.';
COMMENT ON COLUMN jobtrail_analytics.attempt_failures.attempt_started_at IS 'When the attempt started, or was first heard of.';
COMMENT ON COLUMN jobtrail_analytics.attempt_failures.failed_at IS 'When this failure was, to the millisecond.';
COMMENT ON COLUMN jobtrail_analytics.attempt_failures.failure_origin IS 'Whose fault: source, destination, replication, persistence, airbyte_platform, …; null: nobody said, or a cancellation.';
COMMENT ON COLUMN jobtrail_analytics.attempt_failures.failure_type IS 'config_error, system_error, transient_error, heartbeat_timeout, manual_cancellation, …';
COMMENT ON COLUMN jobtrail_analytics.attempt_failures.external_message IS 'What users are told.';
COMMENT ON COLUMN jobtrail_analytics.attempt_failures.internal_message IS 'What operators are told.';
COMMENT ON COLUMN jobtrail_analytics.attempt_failures.stacktrace IS 'Stack trace, where there was one.';
COMMENT ON COLUMN jobtrail_analytics.attempt_failures.retryable IS 'Whether trying again may help; null: not known.';
COMMENT ON COLUMN jobtrail_analytics.attempt_failures.stream_namespace IS 'Namespace of the stream that failed alone.';
COMMENT ON COLUMN jobtrail_analytics.attempt_failures.stream_name IS 'The stream that failed alone; null: the attempt as a whole.';
COMMENT ON COLUMN jobtrail_analytics.attempt_failures.partial_success IS 'Whether the failed attempt had committed records; null: not known, or it did not fail.';
COMMENT ON COLUMN jobtrail_analytics.attempt_failures.source_image IS 'Image or command of the source connector.';
COMMENT ON COLUMN jobtrail_analytics.attempt_failures.source_version IS 'Its version.';
COMMENT ON COLUMN jobtrail_analytics.attempt_failures.destination_image IS 'Image or command of the destination connector.';
COMMENT ON COLUMN jobtrail_analytics.attempt_failures.destination_version IS 'Its version.';
COMMENT ON COLUMN jobtrail_analytics.attempt_failures.dataplane IS 'Dataplane in which the attempt ran.';
;
CREATE OR REPLACE VIEW jobtrail_analytics.stream_throughput AS
SELECT
    counted.attempt_id,
    j.job_id,
    counted.attempt_number,
    counted.stream_namespace,
    counted.stream_name,
    (j.created_at AT TIME ZONE 'UTC')::date AS day,
    j.created_at AS job_created_at,
    j.workspace_id,
    j.connection_id,
    coalesce(j.config_type, 'sync') AS config_type,
    counted.attempt_status,
    counted.attempt_started_at,
    counted.reported_at,
    counted.seconds,
    counted.records_emitted,
    counted.bytes_emitted,
    counted.records_committed,
    counted.bytes_committed,
    counted.records_rejected,
    counted.records_emitted / nullif(counted.seconds, 0) AS records_emitted_per_second,
    counted.bytes_emitted / nullif(counted.seconds, 0) AS bytes_emitted_per_second,
    counted.records_committed / nullif(counted.seconds, 0) AS records_committed_per_second,
    counted.bytes_committed / nullif(counted.seconds, 0) AS bytes_committed_per_second
-- In the order of job ids, which is that of the rows of stream stats: in another each of their pages is read for each
-- job anew.
FROM (SELECT * FROM jobtrail.jobs ORDER BY job_id) j
CROSS JOIN LATERAL (
    SELECT
        a.attempt_id,
        a.attempt_number,
        coalesce(a.status, 'running') AS attempt_status,
        a.created_at AS attempt_started_at,
        t.stream_namespace,
        t.stream_name,
        t.reported_at,
        greatest(date_part('epoch', t.reported_at - a.created_at), 0) AS seconds,
        t.records_emitted,
        t.bytes_emitted,
        t.records_committed,
        t.bytes_committed,
        t.records_rejected
    FROM jobtrail.stream_totals t
    -- There is one; Postgres would take an inner join of the two for a fifth of the rows that it has.
    LEFT JOIN jobtrail.attempts a USING (job_id, attempt_number)
    WHERE t.job_id = j.job_id
    OFFSET 0
) counted
;
COMMENT ON VIEW jobtrail_analytics.stream_throughput IS
'One row for each stream of an attempt that anybody counted: how much, in which time, how fast.';
COMMENT ON COLUMN jobtrail_analytics.stream_throughput.attempt_id IS 'Id of the attempt, unique over all jobs: job_id * 1024 + attempt_number.';
COMMENT ON COLUMN jobtrail_analytics.stream_throughput.job_id IS 'The job.';
COMMENT ON COLUMN jobtrail_analytics.stream_throughput.attempt_number IS 'Number of the attempt within its job, from 0; not its id.';
COMMENT ON COLUMN jobtrail_analytics.stream_throughput.stream_namespace IS 'Namespace of the stream; null: none.';
COMMENT ON COLUMN jobtrail_analytics.stream_throughput.stream_name IS 'The stream.';
COMMENT ON COLUMN jobtrail_analytics.stream_throughput.day IS 'UTC day on which the job was created; a range of days is read by index.';
COMMENT ON COLUMN jobtrail_analytics.stream_throughput.job_created_at IS 'When the job was created; a range is read by index.';
COMMENT ON COLUMN jobtrail_analytics.stream_throughput.workspace_id IS 'Workspace of the job.';
COMMENT ON COLUMN jobtrail_analytics.stream_throughput.connection_id IS 'Connection of the job.';
COMMENT ON COLUMN jobtrail_analytics.stream_throughput.config_type IS 'Kind of the job: sync, refresh, ….';
COMMENT ON COLUMN jobtrail_analytics.stream_throughput.attempt_status IS 'running, failed or succeeded.';
COMMENT ON COLUMN jobtrail_analytics.stream_throughput.attempt_started_at IS 'When the attempt started, or was first heard of.';
COMMENT ON COLUMN jobtrail_analytics.stream_throughput.reported_at IS 'When the stream''s newest counters were.';
COMMENT ON COLUMN jobtrail_analytics.stream_throughput.seconds IS 'From attempt_started_at to reported_at: of streams read one after the other, the later ones have the time of the earlier ones in it.';
COMMENT ON COLUMN jobtrail_analytics.stream_throughput.records_emitted IS 'Records given by the source in this attempt; of several who counted, the platform is believed, then the source.';
COMMENT ON COLUMN jobtrail_analytics.stream_throughput.bytes_emitted IS 'Bytes of these.';
COMMENT ON COLUMN jobtrail_analytics.stream_throughput.records_committed IS 'Records confirmed by the destination in this attempt; the platform is believed, then the destination.';
COMMENT ON COLUMN jobtrail_analytics.stream_throughput.bytes_committed IS 'Bytes of these.';
COMMENT ON COLUMN jobtrail_analytics.stream_throughput.records_rejected IS 'Records that the destination refused.';
COMMENT ON COLUMN jobtrail_analytics.stream_throughput.records_emitted_per_second IS 'records_emitted / seconds; null: no time passed, or nobody counted.';
COMMENT ON COLUMN jobtrail_analytics.stream_throughput.bytes_emitted_per_second IS 'bytes_emitted / seconds.';
COMMENT ON COLUMN jobtrail_analytics.stream_throughput.records_committed_per_second IS 'records_committed / seconds.';
COMMENT ON COLUMN jobtrail_analytics.stream_throughput.bytes_committed_per_second IS 'bytes_committed / seconds.';
;
CREATE OR REPLACE VIEW jobtrail_analytics.connector_reliability AS
SELECT
    day,
    connector_role,
    connector_image,
    connector_version,
    failure_origin,
    failure_type,
    runs,
    successes,
    failures,
    cancellations,
    unfinished,
    (sum(successes + failures) OVER connector_day)::bigint AS decided_runs,
    successes / nullif(sum(successes + failures) OVER connector_day, 0)::double precision AS success_rate,
    failures / nullif(sum(successes + failures) OVER connector_day, 0)::double precision AS failure_rate
FROM (
    SELECT
        (j.created_at AT TIME ZONE 'UTC')::date AS day,
        c.connector_role,
        c.connector_image,
        c.connector_version,
        ran.reason ->> 'failureOrigin' AS failure_origin,
        ran.reason ->> 'failureType' AS failure_type,
        count(*) AS runs,
        count(*) FILTER (WHERE ran.outcome = 'succeeded') AS successes,
        count(*) FILTER (WHERE ran.outcome = 'failed') AS failures,
        count(*) FILTER (WHERE ran.outcome = 'cancelled') AS cancellations,
        count(*) FILTER (WHERE ran.outcome = 'running') AS unfinished
    FROM jobtrail.jobs j
    CROSS JOIN LATERAL (
        SELECT
            a.source_image,
            a.source_version,
            a.destination_image,
            a.destination_version,
            CASE
                WHEN a.status = 'succeeded' THEN 'succeeded'
                WHEN a.status = 'failed' AND cancelled THEN 'cancelled'
                WHEN a.status = 'failed' THEN 'failed'
                ELSE 'running'
            END AS outcome,
            -- The first failure that is not one stream's alone, else the first; a cancellation has its own type.
            CASE
                WHEN a.status = 'failed' AND cancelled THEN jsonb_build_object('failureType', 'manual_cancellation')
                WHEN a.status = 'failed' THEN coalesce(
                    jsonb_path_query_first(a.failure_summary, '$.failures[*] ? (!exists(@.streamDescriptor))'),
                    a.failure_summary -> 'failures' -> 0
                )
            END AS reason
        FROM jobtrail.attempts a
        CROSS JOIN LATERAL (
            SELECT a.failure_summary @> '{"failures": [{"failureType": "manual_cancellation"}]}' AS cancelled
        ) ended
        WHERE a.job_id = j.job_id
        OFFSET 0
    ) ran
    CROSS JOIN LATERAL (
        VALUES
            ('source', ran.source_image, ran.source_version),
            ('destination', ran.destination_image, ran.destination_version)
    ) c (connector_role, connector_image, connector_version)
    GROUP BY 1, 2, 3, 4, 5, 6
) outcomes
WINDOW connector_day AS (PARTITION BY day, connector_role, connector_image, connector_version)
;
COMMENT ON VIEW jobtrail_analytics.connector_reliability IS
'How the attempts in which a connector ran came out: one row for each day, connector, failure origin and type. Counts may be summed over any rows. An attempt has a source and a destination, so choose one connector_role before you sum; a failure counts for both, and failure_origin says whose it was.';
COMMENT ON COLUMN jobtrail_analytics.connector_reliability.day IS 'UTC day on which the job was created; a range of days is read by index.';
COMMENT ON COLUMN jobtrail_analytics.connector_reliability.connector_role IS 'source or destination.';
COMMENT ON COLUMN jobtrail_analytics.connector_reliability.connector_image IS 'Image or command of the connector, as the worker named it; null: nobody said which, as an SDK that was not told.';
COMMENT ON COLUMN jobtrail_analytics.connector_reliability.connector_version IS 'Its version; null: the worker did not say.';
COMMENT ON COLUMN jobtrail_analytics.connector_reliability.failure_origin IS 'Of the failed attempts in this row, whose fault: source, destination, airbyte_platform, …; null: they did not fail, or nobody said.';
COMMENT ON COLUMN jobtrail_analytics.connector_reliability.failure_type IS 'config_error, system_error, transient_error, …; manual_cancellation in the row of cancellations.';
COMMENT ON COLUMN jobtrail_analytics.connector_reliability.runs IS 'Attempts: successes + failures + cancellations + unfinished.';
COMMENT ON COLUMN jobtrail_analytics.connector_reliability.successes IS 'Attempts that succeeded.';
COMMENT ON COLUMN jobtrail_analytics.connector_reliability.failures IS 'Attempts that failed with this origin and type.';
COMMENT ON COLUMN jobtrail_analytics.connector_reliability.cancellations IS 'Attempts that were cancelled: neither successes nor failures.';
COMMENT ON COLUMN jobtrail_analytics.connector_reliability.unfinished IS 'Attempts that run.';
COMMENT ON COLUMN jobtrail_analytics.connector_reliability.decided_runs IS 'Successes and failures of this connector on this day, over all its rows; not to be summed.';
COMMENT ON COLUMN jobtrail_analytics.connector_reliability.success_rate IS 'successes / decided_runs, 0 to 1; null: nothing was decided.';
COMMENT ON COLUMN jobtrail_analytics.connector_reliability.failure_rate IS 'failures / decided_runs, 0 to 1: the part of the day''s attempts that failed so.';
;
CREATE OR REPLACE VIEW jobtrail_analytics.daily_totals AS
SELECT
    day,
    workspace_id,
    connection_id,
    count(*) AS jobs,
    count(*) FILTER (WHERE status = 'succeeded') AS succeeded_jobs,
    count(*) FILTER (WHERE status = 'failed') AS failed_jobs,
    count(*) FILTER (WHERE status = 'cancelled') AS cancelled_jobs,
    count(*) FILTER (WHERE status IN ('pending', 'running', 'incomplete')) AS unfinished_jobs,
    sum(attempts) AS attempts,
    sum(records_emitted) AS records_emitted,
    sum(bytes_emitted) AS bytes_emitted,
    sum(records_committed) AS records_committed,
    sum(bytes_committed) AS bytes_committed,
    sum(records_rejected) AS records_rejected,
    sum(duration_seconds) AS duration_seconds
FROM jobtrail_analytics.job_runs
GROUP BY day, workspace_id, connection_id
;
COMMENT ON VIEW jobtrail_analytics.daily_totals IS
'What the jobs of a connection that were created on a day came to: job_runs, counted and summed. All columns but the first three may be summed further.';
COMMENT ON COLUMN jobtrail_analytics.daily_totals.day IS 'UTC day on which the jobs were created; a range of days is read by index.';
COMMENT ON COLUMN jobtrail_analytics.daily_totals.workspace_id IS 'Workspace; null: unknown.';
COMMENT ON COLUMN jobtrail_analytics.daily_totals.connection_id IS 'Connection; null: jobs of none, such as checks.';
COMMENT ON COLUMN jobtrail_analytics.daily_totals.jobs IS 'Number of jobs: the sum of the next four.';
COMMENT ON COLUMN jobtrail_analytics.daily_totals.succeeded_jobs IS 'Those that succeeded.';
COMMENT ON COLUMN jobtrail_analytics.daily_totals.failed_jobs IS 'Those that failed for good.';
COMMENT ON COLUMN jobtrail_analytics.daily_totals.cancelled_jobs IS 'Those that were cancelled.';
COMMENT ON COLUMN jobtrail_analytics.daily_totals.unfinished_jobs IS 'Those that wait, run, or may be tried again.';
COMMENT ON COLUMN jobtrail_analytics.daily_totals.attempts IS 'Attempts of all of them.';
COMMENT ON COLUMN jobtrail_analytics.daily_totals.records_emitted IS 'Records given by the source: sum over the jobs, each as in job_runs.';
COMMENT ON COLUMN jobtrail_analytics.daily_totals.bytes_emitted IS 'Bytes of these.';
COMMENT ON COLUMN jobtrail_analytics.daily_totals.records_committed IS 'Records confirmed by the destination; null: nobody counted.';
COMMENT ON COLUMN jobtrail_analytics.daily_totals.bytes_committed IS 'Bytes of these.';
COMMENT ON COLUMN jobtrail_analytics.daily_totals.records_rejected IS 'Records that the destination refused.';
COMMENT ON COLUMN jobtrail_analytics.daily_totals.duration_seconds IS 'Time from first start to end, summed over the jobs that ended.';
;
CREATE OR REPLACE VIEW jobtrail_analytics.reconciliation AS
SELECT
    j.job_id * 1024 + n.attempt_number AS attempt_id,
    j.job_id,
    n.attempt_number,
    r.stream_namespace,
    r.stream_name,
    (j.created_at AT TIME ZONE 'UTC')::date AS day,
    j.created_at AS job_created_at,
    j.workspace_id,
    j.connection_id,
    r.source_records_emitted,
    r.platform_records_emitted,
    r.platform_records_emitted - r.source_records_emitted AS emitted_difference_records,
    r.platform_records_committed,
    r.destination_records_committed,
    r.destination_records_committed - r.platform_records_committed AS committed_difference_records
-- Attempts whose counts differ once they have ended are known; those that run differ all the time.
FROM jobtrail.anomalies n
JOIN jobtrail.jobs j USING (job_id)
CROSS JOIN LATERAL (
    SELECT *
    FROM jobtrail.stream_reconciliation r
    WHERE r.job_id = n.job_id AND r.attempt_number = n.attempt_number AND r.differs
    OFFSET 0
) r
WHERE n.kind = 'counts_differ'
;
COMMENT ON VIEW jobtrail_analytics.reconciliation IS
'One row for each stream of an ended attempt that source, platform and destination counted differently.';
COMMENT ON COLUMN jobtrail_analytics.reconciliation.attempt_id IS 'Id of the attempt, unique over all jobs: job_id * 1024 + attempt_number.';
COMMENT ON COLUMN jobtrail_analytics.reconciliation.job_id IS 'The job.';
COMMENT ON COLUMN jobtrail_analytics.reconciliation.attempt_number IS 'Number of the attempt within its job, from 0; not its id.';
COMMENT ON COLUMN jobtrail_analytics.reconciliation.stream_namespace IS 'Namespace of the stream; null: none.';
COMMENT ON COLUMN jobtrail_analytics.reconciliation.stream_name IS 'The stream.';
COMMENT ON COLUMN jobtrail_analytics.reconciliation.day IS 'UTC day on which the job was created; a range of days is read by index.';
COMMENT ON COLUMN jobtrail_analytics.reconciliation.job_created_at IS 'When the job was created; a range is read by index.';
COMMENT ON COLUMN jobtrail_analytics.reconciliation.workspace_id IS 'Workspace of the job.';
COMMENT ON COLUMN jobtrail_analytics.reconciliation.connection_id IS 'Connection of the job.';
COMMENT ON COLUMN jobtrail_analytics.reconciliation.source_records_emitted IS 'Records that the source says it gave; null: it did not count.';
COMMENT ON COLUMN jobtrail_analytics.reconciliation.platform_records_emitted IS 'Records that the platform had from the source.';
COMMENT ON COLUMN jobtrail_analytics.reconciliation.emitted_difference_records IS 'Platform minus source: below 0, records were lost between the two.';
COMMENT ON COLUMN jobtrail_analytics.reconciliation.platform_records_committed IS 'Records that the platform saw confirmed.';
COMMENT ON COLUMN jobtrail_analytics.reconciliation.destination_records_committed IS 'Records that the destination says it wrote.';
COMMENT ON COLUMN jobtrail_analytics.reconciliation.committed_difference_records IS 'Destination minus platform: below 0, records were confirmed and not written.';
;
CREATE OR REPLACE VIEW jobtrail_analytics.anomalies AS
SELECT
    j.job_id,
    n.attempt_number,
    n.kind,
    n.detail,
    j.job_id * 1024 + n.attempt_number AS attempt_id,
    (j.created_at AT TIME ZONE 'UTC')::date AS day,
    j.created_at AS job_created_at,
    j.workspace_id,
    j.connection_id,
    coalesce(j.config_type, 'sync') AS config_type,
    coalesce(j.status, 'pending') AS job_status
FROM jobtrail.anomalies n
JOIN jobtrail.jobs j USING (job_id)
;
COMMENT ON VIEW jobtrail_analytics.anomalies IS
'One row for each contradiction between the events of a job, or success without its evidence. A later event can take one back.';
COMMENT ON COLUMN jobtrail_analytics.anomalies.job_id IS 'The job.';
COMMENT ON COLUMN jobtrail_analytics.anomalies.attempt_number IS 'Number of the attempt within its job, from 0; null: the job itself.';
COMMENT ON COLUMN jobtrail_analytics.anomalies.kind IS 'What it is: zero_records, counts_differ, success_without_evidence, …; ARCHITECTURE.md says what each means and what to do.';
COMMENT ON COLUMN jobtrail_analytics.anomalies.detail IS 'What was found, for people.';
COMMENT ON COLUMN jobtrail_analytics.anomalies.attempt_id IS 'Id of the attempt, unique over all jobs; null: the job itself.';
COMMENT ON COLUMN jobtrail_analytics.anomalies.day IS 'UTC day on which the job was created; a range of days is read by index.';
COMMENT ON COLUMN jobtrail_analytics.anomalies.job_created_at IS 'When the job was created; a range is read by index.';
COMMENT ON COLUMN jobtrail_analytics.anomalies.workspace_id IS 'Workspace of the job.';
COMMENT ON COLUMN jobtrail_analytics.anomalies.connection_id IS 'Connection of the job.';
COMMENT ON COLUMN jobtrail_analytics.anomalies.config_type IS 'Kind of the job: sync, refresh, ….';
COMMENT ON COLUMN jobtrail_analytics.anomalies.job_status IS 'How the job stands.';
;
COMMENT ON SCHEMA jobtrail_analytics IS
'SQL for analysts: names and columns are a contract. docs/sql.md has questions with their queries.'
;
