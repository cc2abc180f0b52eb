-- new_job_id: An id for a job.
SELECT nextval('jobtrail.job_ids') AS job_id
;
-- keep_key: Gives a key a job, unless it has one; waits for whoever gives it one at this moment.
INSERT INTO jobtrail.idempotency_keys (idempotency_key, job_id, request_digest)
VALUES (%(key)s, nextval('jobtrail.job_ids'), %(digest)s)
ON CONFLICT (idempotency_key) DO NOTHING
;
-- job_of_key: The job of a key, since when, whether it was asked for alike, and whether the read models show it.
SELECT k.job_id, k.used_at, k.request_digest = %(digest)s AS same_request, j.job_id IS NOT NULL AS readable
FROM jobtrail.idempotency_keys k
LEFT JOIN jobtrail.jobs j USING (job_id)
WHERE k.idempotency_key = %(key)s
;
-- reserve_connection: Gives the connection to the job; no row where another one has it: one that is not decided, or
-- one that was made within %(seconds)s and is not to be read yet. Whether it is is asked in the same snapshot as
-- whether it is decided. One that waits for a retry has it for as long as one may come, %(retry_within)s.
INSERT INTO jobtrail.connection_reservations AS r (connection_id, job_id)
SELECT %(connection_id)s, %(job_id)s
WHERE NOT EXISTS (
    SELECT FROM jobtrail.jobs
    WHERE (
            status IN ('pending', 'running')
            OR status = 'incomplete' AND updated_at > now() - make_interval(secs => %(retry_within)s)
        )
        AND config_type = ANY (%(config_types)s::text[])
        AND coalesce(connection_id, config_id) = %(connection_id)s
        AND job_id <> %(job_id)s
)
ON CONFLICT (connection_id) DO UPDATE SET job_id = excluded.job_id, reserved_at = excluded.reserved_at
WHERE r.job_id = excluded.job_id
    OR r.reserved_at < now() - make_interval(secs => %(seconds)s)
    OR EXISTS (SELECT FROM jobtrail.jobs j WHERE j.job_id = r.job_id)
RETURNING connection_id, job_id, reserved_at
;
-- reservation: Whether the job has the connection.
SELECT FROM jobtrail.connection_reservations WHERE connection_id = %(connection_id)s AND job_id = %(job_id)s
;
-- free_connection: Gives a connection back of whose job nothing was published, unless it was reserved again.
DELETE FROM jobtrail.connection_reservations
WHERE connection_id = %(connection_id)s AND job_id = %(job_id)s AND reserved_at = %(reserved_at)s
;
-- occupant: The job that has the connection: one that is not decided, else the one that was made last, and in how many
-- seconds that one loses it.
SELECT job_id, status, lapses_in
FROM (
    SELECT job_id, status, NULL AS lapses_in
    FROM jobtrail.jobs
    WHERE (
            status IN ('pending', 'running')
            OR status = 'incomplete' AND updated_at > now() - make_interval(secs => %(retry_within)s)
        )
        AND config_type = ANY (%(config_types)s::text[])
        AND coalesce(connection_id, config_id) = %(connection_id)s
    UNION ALL
    SELECT job_id, NULL,
        greatest(1, ceil(extract(epoch FROM reserved_at - now()) + %(seconds)s))::integer
    FROM jobtrail.connection_reservations
    WHERE connection_id = %(connection_id)s
) found
ORDER BY status NULLS LAST, job_id
LIMIT 1
;
-- standing: How a job stands, and whether an attempt of it runs.
SELECT status, ended_at, EXISTS (
    SELECT FROM jobtrail.attempts a WHERE a.job_id = j.job_id AND a.status = 'running'
) AS runs
FROM jobtrail.jobs j
WHERE job_id = %(job_id)s
;
