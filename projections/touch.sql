-- Which jobs have to be derived anew after a merge: those with lifecycle events; and, where something else was
-- heard of an attempt, those with an end or a failure, and those with an attempt that was never derived.
INSERT INTO touched
SELECT job_id FROM stage_job_events
UNION
SELECT s.job_id
FROM stage_attempts s
WHERE EXISTS (
    SELECT FROM jobs j WHERE j.job_id = s.job_id AND coalesce(j.failed_at, j.cancelled_at) IS NOT NULL
) OR EXISTS (
    SELECT FROM attempts a
    WHERE a.job_id = s.job_id
        AND (a.status IS NULL
            OR coalesce(a.succeeded_at, a.failed_at, a.cancelled_at, a.failure_at) IS NOT NULL)
)
