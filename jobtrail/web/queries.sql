-- trends: The last runs of some connections, newest first: how each ended and how long it took, in seconds.
SELECT c.connection_id, r.job_id, r.status, r.seconds
FROM unnest(%(connection_ids)s::text[]) AS c (connection_id)
CROSS JOIN LATERAL (
    SELECT
        j.job_id, coalesce(j.status, 'pending') AS status, j.created_at,
        extract(epoch FROM j.ended_at - j.started_at)::float8 AS seconds
    FROM jobtrail.jobs j
    WHERE j.connection_id = c.connection_id
    ORDER BY j.created_at DESC, j.job_id DESC
    LIMIT %(runs)s
) r
ORDER BY c.connection_id, r.created_at DESC, r.job_id DESC
;
