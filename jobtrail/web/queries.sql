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
-- connectors: How the attempts of each connector came out, of jobs created since a day, by failure origin and type.
SELECT
    connector_role, connector_image, connector_version, failure_origin, failure_type,
    sum(runs)::bigint AS runs, sum(successes)::bigint AS successes, sum(failures)::bigint AS failures,
    sum(cancellations)::bigint AS cancellations, sum(unfinished)::bigint AS unfinished
FROM jobtrail_analytics.connector_reliability
WHERE day >= %(first_day)s
GROUP BY connector_role, connector_image, connector_version, failure_origin, failure_type
;
-- last_failures: The newest failure of each connector, where it is among the newest of all: what they say is read of
-- so many jobs and no more.
SELECT DISTINCT ON (connector_role, connector_image, connector_version)
    connector_role, connector_image, connector_version, f.job_id, f.failed_at, f.failure_origin, f.failure_type, f.said
FROM (
    SELECT
        job_id, failed_at, failure_origin, failure_type, source_image, source_version, destination_image,
        destination_version, left(coalesce(external_message, internal_message), 500) AS said
    FROM jobtrail_analytics.attempt_failures
    WHERE job_created_at >= %(begin)s AND attempt_status = 'failed' AND stream_name IS NULL
        AND failure_type IS DISTINCT FROM 'manual_cancellation'
    ORDER BY job_created_at DESC, job_id DESC
    LIMIT %(newest)s
) f
CROSS JOIN LATERAL (
    VALUES ('source', f.source_image, f.source_version), ('destination', f.destination_image, f.destination_version)
) c (connector_role, connector_image, connector_version)
ORDER BY connector_role, connector_image, connector_version, f.failed_at DESC, f.job_id DESC
;
