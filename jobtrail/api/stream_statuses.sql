-- list: Statuses of streams, those of one attempt together; the filters are the parts that begin with "by_".
SELECT {columns}
FROM jobtrail.stream_statuses s
JOIN jobtrail.jobs j USING (job_id)
WHERE {filters}
ORDER BY s.job_id, s.attempt_number, s.stream_name, s.stream_namespace, s.transitioned_at, s.run_state
LIMIT %(limit)s OFFSET %(offset)s
;
-- columns: Part of list: what is shown of a status.
s.job_id, s.attempt_number, s.stream_namespace, s.stream_name, s.run_state, s.run_state AS shown_state,
s.incomplete_run_cause, s.transitioned_at, s.quota_reset_at, j.workspace_id, j.connection_id, j.config_type
;
-- by_workspace_id: Part of list. A job of which no workspace is known belongs to every one.
(j.workspace_id = %(workspace_id)s OR j.workspace_id IS NULL)
;
-- by_connection_id: Part of list.
j.connection_id = %(connection_id)s
;
-- by_job_id: Part of list.
s.job_id = %(job_id)s
;
-- by_attempt_number: Part of list.
s.attempt_number = %(attempt_number)s
;
-- by_stream_name: Part of list.
s.stream_name = %(stream_name)s
;
-- by_stream_namespace: Part of list.
s.stream_namespace = %(stream_namespace)s
;
-- by_job_type: Part of list.
(coalesce(j.config_type, 'sync') IN ('reset_connection', 'clear')) = (%(job_type)s = 'RESET')
;
-- latest_per_run_state: The latest status of each stream of a connection in each run state, over its newest jobs. When
-- an attempt is over, so are its streams: one that was left otherwise is shown as its attempt ended.
WITH recent AS (
    SELECT job_id, status, workspace_id, connection_id, config_type
    FROM jobtrail.jobs
    WHERE connection_id = %(connection_id)s
    ORDER BY created_at DESC, job_id DESC
    LIMIT %(jobs)s
),
found AS (
    SELECT
        s.*,
        j.workspace_id,
        j.connection_id,
        j.config_type,
        coalesce(j.config_type, 'sync') IN ('reset_connection', 'clear') AS resets,
        CASE
            WHEN s.run_state IN ('COMPLETE', 'INCOMPLETE') THEN NULL
            WHEN a.status = 'failed' THEN CASE j.status WHEN 'cancelled' THEN 'cancelled' ELSE 'failed' END
            WHEN a.status = 'succeeded' THEN 'succeeded'
        END AS left_over,
        row_number() OVER (
            PARTITION BY s.job_id, s.attempt_number, s.stream_namespace, s.stream_name
            ORDER BY s.transitioned_at DESC, s.event_id DESC
        ) = 1 AS is_last
    FROM recent j
    JOIN jobtrail.stream_statuses s USING (job_id)
    JOIN jobtrail.attempts a ON a.job_id = s.job_id AND a.attempt_number = s.attempt_number
),
shown AS (
    SELECT
        *,
        CASE
            WHEN left_over IS NULL THEN run_state
            WHEN left_over = 'succeeded' THEN 'COMPLETE'
            ELSE 'INCOMPLETE'
        END AS shown_state,
        CASE left_over WHEN 'failed' THEN 'FAILED' WHEN 'cancelled' THEN 'CANCELED' ELSE incomplete_run_cause END
            AS shown_cause
    FROM found
    WHERE left_over IS NULL OR is_last
)
SELECT DISTINCT ON (resets, stream_name, stream_namespace, shown_state, shown_cause)
    job_id, attempt_number, stream_namespace, stream_name, run_state, shown_state,
    shown_cause AS incomplete_run_cause, transitioned_at, quota_reset_at, workspace_id, connection_id, config_type
FROM shown
ORDER BY resets, stream_name, stream_namespace, shown_state, shown_cause, transitioned_at DESC, event_id DESC
