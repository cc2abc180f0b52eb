-- situation: What decides whether a job should be tried again: one row, none for an unknown job.
SELECT
    coalesce(j.status, 'pending') AS status,
    j.cancel_requested_at IS NOT NULL AS cancel_requested,
    j.connection_id,
    j.successive_complete_failures,
    j.total_complete_failures,
    j.successive_partial_failures,
    j.total_partial_failures,
    last.ended_at AS failed_at,
    last.failure_summary
FROM jobtrail.jobs j
LEFT JOIN LATERAL (
    SELECT a.ended_at, a.failure_summary
    FROM jobtrail.attempts a
    WHERE a.job_id = j.job_id AND a.status = 'failed'
    ORDER BY a.attempt_number DESC
    LIMIT 1
) last ON true
WHERE j.job_id = %(job_id)s::bigint
;
-- anomalies: Contradictions, the newest jobs first, from behind the one that a page ended with. -1: the job itself.
SELECT job_id, coalesce(attempt_number, -1) AS attempt_number, kind, detail
FROM jobtrail.anomalies
WHERE (%(job_id)s::bigint IS NULL OR job_id = %(job_id)s::bigint)
    AND (%(kinds)s::text[] IS NULL OR kind = ANY (%(kinds)s::text[]))
    AND (%(after_job)s::bigint IS NULL OR job_id <= %(after_job)s::bigint)
    AND (%(after_job)s::bigint IS NULL OR (-job_id, coalesce(attempt_number, -1), kind)
        > (-%(after_job)s::bigint, %(after_attempt)s::int, %(after_kind)s::text))
ORDER BY job_id DESC, coalesce(attempt_number, -1), kind
LIMIT %(limit)s
;
-- anomalies_count: How many match, exactly.
SELECT count(*) AS anomalies
FROM jobtrail.anomalies
WHERE (%(job_id)s::bigint IS NULL OR job_id = %(job_id)s::bigint)
    AND (%(kinds)s::text[] IS NULL OR kind = ANY (%(kinds)s::text[]))
;
