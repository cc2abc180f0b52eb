-- Derived columns, for the jobs in the temporary table `touched`. Functions of the merged rows alone.
-- The temporary tables are made by derive_tables.sql, once for each connection.
-- Statements end with a line of their own, ";", and run one after the other in one transaction.

-- 1. Own end of an attempt: its earliest AttemptSucceeded, AttemptFailed or Cancelled with its number; if there
--    is none, its earliest Failure without a stream.
INSERT INTO own_ends
SELECT
    a.job_id,
    a.attempt_number,
    coalesce(a.started_at, a.first_heard_at) AS begun_at,
    a.started_event_id,
    a.last_heard_at,
    own.kind,
    own.at,
    own.event_id
FROM touched
JOIN attempts a USING (job_id)
LEFT JOIN LATERAL (
    SELECT ends.kind, ends.at, ends.event_id
    FROM (
        VALUES
            (1, 'succeeded', a.succeeded_at, a.succeeded_event_id),
            (1, 'failed', a.failed_at, a.failed_event_id),
            (1, 'cancelled', a.cancelled_at, a.cancelled_event_id),
            (2, 'failed', a.failure_at, a.failure_event_id)
    ) AS ends (precedence, kind, at, event_id)
    WHERE ends.at IS NOT NULL
    ORDER BY ends.precedence, ends.at, ends.event_id
    LIMIT 1
) own ON true
;
-- 2. Job decision: the earliest of any own end that is a success, JobFailed, and Cancelled without a number.
INSERT INTO decisions
SELECT DISTINCT ON (job_id) job_id, kind, at, event_id
FROM (
    SELECT job_id, kind, at, event_id FROM own_ends WHERE kind = 'succeeded'
    UNION ALL
    SELECT job_id, 'failed', failed_at, failed_event_id
    FROM touched JOIN jobs USING (job_id) WHERE failed_at IS NOT NULL
    UNION ALL
    SELECT job_id, 'cancelled', cancelled_at, cancelled_event_id
    FROM touched JOIN jobs USING (job_id) WHERE cancelled_at IS NOT NULL
) ends
ORDER BY job_id, at, event_id
;
-- 3. Effective end: under a job that was cancelled or failed, an attempt that began before that and has no
--    earlier own end fails at it. At the same instant the cancellation is the earlier one: who ends an attempt for
--    its sake, as the watchdog does, ends both at once.
INSERT INTO ends
SELECT
    o.job_id,
    o.attempt_number,
    o.begun_at,
    o.started_event_id,
    o.last_heard_at,
    CASE WHEN overruled THEN d.kind ELSE o.kind END AS kind,
    CASE WHEN overruled THEN d.at ELSE o.at END AS at
FROM own_ends o
LEFT JOIN decisions d USING (job_id)
CROSS JOIN LATERAL (
    SELECT
        d.kind IN ('cancelled', 'failed')
        AND (o.begun_at, coalesce(o.started_event_id, d.event_id)) <= (d.at, d.event_id)
        AND (
            o.at IS NULL
            OR (o.at, o.event_id) > (d.at, d.event_id)
            OR (d.kind = 'cancelled' AND o.at = d.at)
        ) AS overruled
) rule
;
UPDATE attempts a
SET status = new.status, ended_at = new.ended_at, failure_summary = new.failure_summary
FROM (
    SELECT
        e.job_id,
        e.attempt_number,
        CASE e.kind WHEN 'succeeded' THEN 'succeeded' WHEN 'failed' THEN 'failed' WHEN 'cancelled' THEN 'failed'
            ELSE 'running' END AS status,
        e.at AS ended_at,
        CASE
            WHEN e.kind IN ('failed', 'cancelled') OR reasons.failures IS NOT NULL
            THEN jsonb_strip_nulls(jsonb_build_object('partialSuccess', committed.partly))
                || jsonb_build_object('failures', coalesce(reasons.failures, '[]'))
        END AS failure_summary
    FROM ends e
    LEFT JOIN (
        SELECT job_id, attempt_number, jsonb_agg(reason ORDER BY at, event_id) AS failures
        FROM (
            SELECT
                f.job_id,
                f.attempt_number,
                told.at,
                f.event_id,
                jsonb_strip_nulls(jsonb_build_object(
                    'timestamp', floor(extract(epoch FROM told.at) * 1000)::bigint,
                    'failureOrigin', b.body -> 'failure_origin',
                    'failureType', b.body -> 'failure_type',
                    'internalMessage', b.body -> 'internal_message',
                    'externalMessage', b.body -> 'external_message',
                    'stacktrace', b.body -> 'stacktrace',
                    'retryable', b.body -> 'retryable',
                    'fromTraceMessage', b.body -> 'from_trace_message',
                    'streamDescriptor', CASE WHEN b.body ? 'stream_name' THEN jsonb_build_object(
                        'name', b.body -> 'stream_name',
                        'namespace', nullif(b.body ->> 'stream_namespace', '')
                    ) END
                )) || jsonb_build_object(
                    'metadata',
                    coalesce(b.metadata, '{}') - %(failed_at)s::text
                    || jsonb_build_object('jobId', f.job_id, 'attemptNumber', f.attempt_number)
                ) AS reason
            FROM touched
            JOIN job_events f USING (job_id)
            -- OFFSET 0: each text is parsed once, not at each use.
            CROSS JOIN LATERAL (
                SELECT body, (body ->> 'metadata')::jsonb AS metadata
                FROM (SELECT f.body::jsonb AS body OFFSET 0) parsed
                OFFSET 0
            ) b
            -- Who tells of a failure afterwards says in its metadata when it was: it orders the failures, nothing else.
            CROSS JOIN LATERAL (
                SELECT CASE
                    WHEN b.metadata ->> %(failed_at)s::text ~ '^[0-9]{12,13}$'
                    THEN timestamptz 'epoch' + (b.metadata ->> %(failed_at)s::text)::bigint * interval '1 millisecond'
                    ELSE f.occurred_at
                END AS at
            ) told
            WHERE f.event_type = 'Failure'
            UNION ALL
            SELECT
                c.job_id,
                c.attempt_number,
                c.at,
                NULL,
                jsonb_build_object(
                    'timestamp', floor(extract(epoch FROM c.at) * 1000)::bigint,
                    'failureType', 'manual_cancellation',
                    'internalMessage', %(cancelled_internal)s::text,
                    'externalMessage', %(cancelled_external)s::text,
                    'metadata', jsonb_build_object('jobId', c.job_id, 'attemptNumber', c.attempt_number)
                )
            FROM ends c
            WHERE c.kind = 'cancelled'
                AND NOT EXISTS (
                    SELECT FROM job_events f
                    WHERE f.job_id = c.job_id AND f.attempt_number = c.attempt_number
                        AND f.event_type = 'Failure'
                        AND f.body::jsonb ->> 'failure_type' = 'manual_cancellation'
                )
        ) all_reasons
        GROUP BY job_id, attempt_number
    ) reasons USING (job_id, attempt_number)
    LEFT JOIN LATERAL (
        -- Unset unless the attempt failed, and where a stream's count is unknown and none is above 0.
        SELECT CASE WHEN sum(t.records_committed) > 0 THEN true
            WHEN bool_and(t.records_committed IS NOT NULL) THEN false END AS partly
        FROM stream_totals t
        WHERE t.job_id = e.job_id AND t.attempt_number = e.attempt_number AND e.kind IN ('failed', 'cancelled')
    ) committed ON true
) new
WHERE a.job_id = new.job_id AND a.attempt_number = new.attempt_number
    AND (a.status, a.ended_at, a.failure_summary)
        IS DISTINCT FROM (new.status, new.ended_at, new.failure_summary)
;
UPDATE jobs j
SET status = new.status, started_at = new.started_at, ended_at = new.ended_at,
    successive_complete_failures = new.successive_complete, total_complete_failures = new.total_complete,
    successive_partial_failures = new.successive_partial, total_partial_failures = new.total_partial,
    failure_reason = new.failure_reason,
    records_emitted = new.records_emitted, bytes_emitted = new.bytes_emitted,
    records_committed = new.records_committed, bytes_committed = new.bytes_committed,
    records_rejected = new.records_rejected
FROM (
    SELECT
        job_id,
        outcome.status,
        starts.started_at,
        d.at AS ended_at,
        coalesce(retries.successive_complete, 0) AS successive_complete,
        coalesce(retries.total_complete, 0) AS total_complete,
        coalesce(retries.successive_partial, 0) AS successive_partial,
        coalesce(retries.total_partial, 0) AS total_partial,
        CASE WHEN outcome.status IN ('failed', 'cancelled', 'incomplete')
            THEN coalesce(why.reason, ended.reason) END AS failure_reason,
        totals.*
    FROM touched
    LEFT JOIN decisions d USING (job_id)
    LEFT JOIN (
        SELECT DISTINCT ON (job_id) job_id, attempt_number, kind FROM ends ORDER BY job_id, attempt_number DESC
    ) last USING (job_id)
    CROSS JOIN LATERAL (
        SELECT CASE
            WHEN d.kind IS NOT NULL THEN d.kind
            WHEN last.attempt_number IS NULL THEN 'pending'
            WHEN last.kind IS NULL THEN 'running'
            ELSE 'incomplete'
        END AS status
    ) outcome
    LEFT JOIN (
        SELECT job_id, min(a.started_at) AS started_at FROM touched JOIN attempts a USING (job_id) GROUP BY job_id
    ) starts USING (job_id)
    -- The same as jobtrail.retry.retry_state: each failed attempt committed something (partly) or nothing.
    LEFT JOIN (
        SELECT
            job_id,
            count(*) FILTER (WHERE NOT partly AND attempt_number > last_partly) AS successive_complete,
            count(*) FILTER (WHERE NOT partly) AS total_complete,
            count(*) FILTER (WHERE partly AND attempt_number > last_wholly) AS successive_partial,
            count(*) FILTER (WHERE partly) AS total_partial
        FROM (
            SELECT
                job_id,
                attempt_number,
                partly,
                coalesce(max(attempt_number) FILTER (WHERE partly) OVER job, -1) AS last_partly,
                coalesce(max(attempt_number) FILTER (WHERE NOT partly) OVER job, -1) AS last_wholly
            FROM ends e
            JOIN attempts a USING (job_id, attempt_number)
            CROSS JOIN LATERAL (
                SELECT coalesce((a.failure_summary -> 'partialSuccess')::boolean, false) AS partly
            ) success
            WHERE e.kind = 'failed'
            WINDOW job AS (PARTITION BY job_id)
        ) failed
        GROUP BY job_id
    ) retries USING (job_id)
    -- Of the last attempt that failed: its cancellation if that ended the job, else its first failure that is not
    -- one stream's alone, else its first. Cut short, so that an answer without attempts stays small.
    LEFT JOIN (
        SELECT
            last_failed.job_id,
            jsonb_strip_nulls(jsonb_build_object(
                'attemptNumber', last_failed.attempt_number,
                'timestamp', chosen.reason -> 'timestamp',
                'failureOrigin', left(chosen.reason ->> 'failureOrigin', 40),
                'failureType', left(chosen.reason ->> 'failureType', 40),
                'externalMessage',
                left(coalesce(chosen.reason ->> 'externalMessage', chosen.reason ->> 'internalMessage'), 120),
                'retryable', chosen.reason -> 'retryable'
            )) AS reason
        FROM (
            SELECT DISTINCT ON (e.job_id)
                e.job_id,
                e.attempt_number,
                a.failure_summary,
                d.kind = 'cancelled' AS cancelled
            FROM ends e
            JOIN attempts a USING (job_id, attempt_number)
            LEFT JOIN decisions d USING (job_id)
            WHERE e.kind IN ('failed', 'cancelled')
            ORDER BY e.job_id, e.attempt_number DESC
        ) last_failed
        CROSS JOIN LATERAL (
            SELECT coalesce(
                CASE WHEN last_failed.cancelled THEN jsonb_path_query_first(
                    last_failed.failure_summary, '$.failures[*] ? (@.failureType == "manual_cancellation")'
                ) END,
                jsonb_path_query_first(
                    last_failed.failure_summary, '$.failures[*] ? (!exists(@.streamDescriptor))'
                ),
                last_failed.failure_summary -> 'failures' -> 0
            ) AS reason
        ) chosen
        WHERE chosen.reason IS NOT NULL
    ) why USING (job_id)
    -- Of no attempt, where none says why: all that is known is the decision.
    LEFT JOIN LATERAL (
        SELECT jsonb_strip_nulls(jsonb_build_object(
            'timestamp', floor(extract(epoch FROM d.at) * 1000)::bigint,
            'failureType', CASE d.kind WHEN 'cancelled' THEN 'manual_cancellation' END,
            'externalMessage',
            CASE d.kind WHEN 'cancelled' THEN %(cancelled_job)s::text ELSE %(failed_job)s::text END
        )) AS reason
        WHERE d.kind IN ('cancelled', 'failed')
    ) ended ON true
    -- Of a decided job, of which everything that comes is derived; what was tried once, as most are, counts whole.
    CROSS JOIN LATERAL (
        SELECT
            sum(records_emitted) AS records_emitted,
            sum(bytes_emitted) AS bytes_emitted,
            sum(records_committed) AS records_committed,
            sum(bytes_committed) AS bytes_committed,
            sum(records_rejected) AS records_rejected
        FROM (
            SELECT records_emitted, bytes_emitted, records_committed, bytes_committed, records_rejected
            FROM stream_totals t
            WHERE t.job_id = touched.job_id AND d.kind IS NOT NULL AND last.attempt_number = 0
            UNION ALL
            SELECT records_emitted, bytes_emitted, records_committed, bytes_committed, records_rejected
            FROM counted_streams c
            WHERE c.job_id = touched.job_id AND c.counts AND d.kind IS NOT NULL AND last.attempt_number > 0
        ) counted
    ) totals
) new
WHERE j.job_id = new.job_id
    AND (
        j.status, j.started_at, j.ended_at, j.failure_reason,
        j.successive_complete_failures, j.total_complete_failures,
        j.successive_partial_failures, j.total_partial_failures,
        j.records_emitted, j.bytes_emitted, j.records_committed, j.bytes_committed, j.records_rejected
    ) IS DISTINCT FROM (
        new.status, new.started_at, new.ended_at, new.failure_reason,
        new.successive_complete, new.total_complete, new.successive_partial, new.total_partial,
        new.records_emitted, new.bytes_emitted, new.records_committed, new.bytes_committed, new.records_rejected
    )
;
-- 4. and 5. Contradictions. One row for each (job, attempt, kind); attempt -1 is the job itself.
INSERT INTO found
WITH successes AS (SELECT * FROM ends WHERE kind = 'succeeded')
-- An attempt still runs though its job is decided.
SELECT e.job_id, e.attempt_number, 'running_after_job_end' AS kind,
    format('job %%s at %%s', d.kind, d.at AT TIME ZONE 'UTC') AS detail
FROM ends e JOIN decisions d USING (job_id)
WHERE e.kind IS NULL
UNION ALL
-- A success that does not decide its job.
SELECT a.job_id, a.attempt_number, 'success_not_deciding',
    format('succeeded at %%s, but the job was %%s at %%s',
        a.succeeded_at AT TIME ZONE 'UTC', coalesce(d.kind, 'undecided'), d.at AT TIME ZONE 'UTC')
FROM touched JOIN attempts a USING (job_id) LEFT JOIN decisions d USING (job_id)
WHERE a.succeeded_at IS NOT NULL AND d.event_id IS DISTINCT FROM a.succeeded_event_id
UNION ALL
-- A JobFailed or a Cancelled of the whole job that came too late: the job had succeeded.
SELECT j.job_id, -1, 'end_not_deciding',
    concat_ws(' and ',
        'failed at ' || (j.failed_at AT TIME ZONE 'UTC'),
        'cancelled at ' || (j.cancelled_at AT TIME ZONE 'UTC'))
    || format(', but the job succeeded at %%s', d.at AT TIME ZONE 'UTC')
FROM decisions d JOIN jobs j USING (job_id)
WHERE d.kind = 'succeeded' AND coalesce(j.failed_at, j.cancelled_at) IS NOT NULL
UNION ALL
-- Something was heard after the end.
SELECT e.job_id, e.attempt_number, 'activity_after_end',
    format('ended at %%s, heard at %%s', e.at AT TIME ZONE 'UTC', e.last_heard_at AT TIME ZONE 'UTC')
FROM ends e
WHERE e.last_heard_at > e.at
UNION ALL
-- An attempt that began after the job was decided.
SELECT e.job_id, e.attempt_number, 'start_after_decision',
    format('began at %%s, job %%s at %%s', e.begun_at AT TIME ZONE 'UTC', d.kind, d.at AT TIME ZONE 'UTC')
FROM ends e JOIN decisions d USING (job_id)
WHERE e.begun_at > d.at
UNION ALL
-- A success of which nothing shows that the work was done: no start; of a job that moves records, a stream that was
-- to be moved and of which neither stats nor a status came, or, where none is named, no stats and no status at all.
SELECT e.job_id, e.attempt_number, 'success_without_evidence',
    concat_ws('; ',
        CASE WHEN e.started_event_id IS NULL THEN 'no AttemptStarted' END,
        CASE
            WHEN missing.streams > 0
            THEN format('no stats and no status of %%s of %%s streams, such as %%s',
                missing.streams, missing.enabled, missing.example)
            WHEN missing.enabled = 0 AND moves.records AND NOT heard.any_stream
            THEN 'no stats and no status of any stream'
        END)
FROM successes e
JOIN jobs j USING (job_id)
CROSS JOIN LATERAL (
    SELECT coalesce(j.config_type, 'sync') IN ('sync', 'refresh') AS records
) moves
CROSS JOIN LATERAL (
    SELECT EXISTS (SELECT FROM stream_stats s WHERE s.job_id = e.job_id AND s.attempt_number = e.attempt_number)
        OR EXISTS (SELECT FROM stream_statuses s WHERE s.job_id = e.job_id AND s.attempt_number = e.attempt_number)
        AS any_stream
) heard
CROSS JOIN LATERAL (
    -- Stats are read as one range of their key; statuses only of the streams that have none.
    SELECT
        count(*) AS enabled,
        count(*) FILTER (WHERE unheard) AS streams,
        min(enabled.name COLLATE "C") FILTER (WHERE unheard) AS example
    FROM jsonb_to_recordset(CASE WHEN moves.records THEN coalesce(j.streams, '[]')::jsonb ELSE '[]' END)
        AS enabled (namespace text, name text)
    LEFT JOIN (
        SELECT DISTINCT s.stream_namespace, s.stream_name FROM stream_stats s
        WHERE s.job_id = e.job_id AND s.attempt_number = e.attempt_number
    ) counted ON counted.stream_namespace = coalesce(enabled.namespace, '') AND counted.stream_name = enabled.name
    CROSS JOIN LATERAL (
        SELECT counted.stream_name IS NULL AND NOT EXISTS (
            SELECT FROM stream_statuses s
            WHERE s.job_id = e.job_id AND s.attempt_number = e.attempt_number
                AND s.stream_namespace = coalesce(enabled.namespace, '') AND s.stream_name = enabled.name
        ) AS unheard
    ) evidence
) missing
WHERE e.started_event_id IS NULL OR missing.streams > 0
    OR (missing.enabled = 0 AND moves.records AND NOT heard.any_stream)
UNION ALL
-- A success of a job that moves records, and moved none in any attempt: committed if known, else emitted.
SELECT e.job_id, e.attempt_number, 'zero_records',
    CASE WHEN moved.committed IS NULL THEN 'no records were emitted' ELSE 'no records were committed' END
FROM successes e
JOIN jobs j USING (job_id)
CROSS JOIN LATERAL (
    SELECT sum(t.records_committed) AS committed, sum(t.records_emitted) AS emitted
    FROM stream_totals t
    WHERE t.job_id = e.job_id
) moved
-- Where some of it counts for the job, as it mostly does, there is nothing to add up.
WHERE coalesce(j.config_type, 'sync') IN ('sync', 'refresh') AND coalesce(j.records_committed, 0) = 0
    AND coalesce(moved.committed, moved.emitted) = 0
UNION ALL
-- Who counted the same records counted differently.
SELECT e.job_id, e.attempt_number, 'counts_differ',
    format('%%s streams, such as %%s: emitted %%s by the source, %%s by the platform;'
        ' committed %%s by the platform, %%s by the destination',
        differing.streams, differing.first[1], differing.first[2], differing.first[3], differing.first[4],
        differing.first[5])
FROM ends e
-- An aggregate, so that the view is read by key for each attempt, and never as a whole.
CROSS JOIN LATERAL (
    SELECT
        count(*) AS streams,
        min(ARRAY[
            r.stream_name,
            coalesce(r.source_records_emitted::text, '?'),
            coalesce(r.platform_records_emitted::text, '?'),
            coalesce(r.platform_records_committed::text, '?'),
            coalesce(r.destination_records_committed::text, '?')
        ] COLLATE "C") AS first
    FROM stream_reconciliation r
    WHERE r.job_id = e.job_id AND r.attempt_number = e.attempt_number AND r.differs
) differing
WHERE e.kind IS NOT NULL AND differing.streams > 0
UNION ALL
-- Nobody created the job.
SELECT job_id, -1, 'job_not_created', 'it has events, and none of them is JobCreated'
FROM touched
-- OFFSET 0: by key, however few such jobs Postgres expects among all.
CROSS JOIN LATERAL (SELECT created_at FROM jobs j WHERE j.job_id = touched.job_id OFFSET 0) job
WHERE created_at IS NULL
UNION ALL
-- What the events themselves show, read once. Few have any of it.
SELECT told.job_id, told.attempt_number, contradiction.kind, contradiction.detail
FROM (
    SELECT
        job_id,
        coalesce(attempt_number, -1) AS attempt_number,
        count(*) FILTER (WHERE event_type = 'AttemptStarted') AS starts,
        count(*) FILTER (WHERE event_type = 'JobCreated') AS creations,
        min(event_id::text) FILTER (WHERE digest_low <> digest_high) AS twice,
        max(late) FILTER (WHERE is_off) AS latest,
        min(late) FILTER (WHERE is_off) AS earliest
    FROM touched JOIN job_events USING (job_id)
    CROSS JOIN LATERAL (SELECT received_at - occurred_at AS late) delay
    CROSS JOIN LATERAL (
        SELECT late NOT BETWEEN interval '-15 minutes' AND interval '15 minutes' AND event_type <> 'Failure' AS is_off
    ) clocks
    GROUP BY job_id, attempt_number
    HAVING
        count(*) FILTER (WHERE event_type = 'AttemptStarted') > 1
        OR count(*) FILTER (WHERE event_type = 'JobCreated') > 1
        OR bool_or(digest_low <> digest_high)
        OR bool_or(is_off)
) told
CROSS JOIN LATERAL (
    -- The start of whoever gave out the attempt's number, without a word on the worker, and that of the worker are one.
    SELECT 'second_start' AS kind, format('%%s AttemptStarted events', told.starts) AS detail
    FROM job_events s
    CROSS JOIN LATERAL (SELECT s.body::jsonb ?| %(about_worker)s::text[] AS taken) start
    WHERE told.starts > 1 AND s.job_id = told.job_id AND s.attempt_number = told.attempt_number
        AND s.event_type = 'AttemptStarted'
    HAVING count(*) FILTER (WHERE taken) > 1 OR count(*) FILTER (WHERE NOT taken) > 1
    UNION ALL
    SELECT 'job_id_used_twice', format('%%s JobCreated events', told.creations)
    WHERE told.creations > 1
    UNION ALL
    SELECT 'event_id_used_twice', format('event %%s has two bodies', told.twice)
    WHERE told.twice IS NOT NULL
    UNION ALL
    -- The producer's clock and the broker's are more than 15 minutes apart, or the event came that late. A Failure may
    -- be told of late: other events of who has a wrong clock show that.
    SELECT 'clock_off', format('an event came %%s s after the time it bears',
        round(extract(epoch FROM CASE WHEN told.latest >= -told.earliest THEN told.latest ELSE told.earliest END)))
    WHERE told.latest IS NOT NULL
) contradiction
;
DELETE FROM anomalies a
USING touched
WHERE a.job_id = touched.job_id
    AND NOT EXISTS (
        SELECT FROM found f
        WHERE f.job_id = a.job_id AND f.attempt_number = a.attempt_number AND f.kind = a.kind
    )
;
INSERT INTO anomalies AS a (job_id, attempt_number, kind, detail)
SELECT job_id, attempt_number, kind, detail FROM found
ON CONFLICT (job_id, attempt_number, kind) DO UPDATE SET detail = excluded.detail
WHERE a.detail <> excluded.detail
;
