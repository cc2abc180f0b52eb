-- folded: Whether the read models hold all of a topic before the given ends of its partitions.
SELECT NOT EXISTS (
    SELECT FROM unnest(%(partitions)s::int[], %(ends)s::bigint[]) AS log (log_partition, next_offset)
    LEFT JOIN (
        SELECT log_partition, next_offset
        FROM checkpoints
        WHERE projection_set = %(set)s AND generation = %(generation)s AND topic_id = %(topic_id)s
    ) folded USING (log_partition)
    WHERE coalesce(folded.next_offset, 0) < log.next_offset
)
;
-- awaited: Running attempts, whose job may be decided, and jobs that nobody runs, and that no attempt took or that are
-- to be cancelled, with the last sign of each.
-- A cancel counts from when it was asked for, or the attempt began; by the broker's clock, whoever asked. Until
-- something is heard after it the attempt is silent, and nothing else; unless no worker took it, for then nobody has
-- to be heard. Where no attempt runs it counts from what was last heard of one.
SELECT
    CASE WHEN disobeys THEN 'cancel_unconfirmed' WHEN a.taken_at IS NULL THEN 'not_taken' ELSE 'silent' END AS rule,
    a.job_id,
    a.attempt_number::int AS attempt_number,
    j.config_type,
    CASE WHEN disobeys THEN greatest(j.cancel_requested_at, coalesce(a.started_at, a.first_heard_at))
        ELSE a.last_heard_at END AS since,
    CASE WHEN NOT disobeys THEN a.last_received_at END AS received_at,
    CASE WHEN disobeys THEN j.cancel_requested_by END AS requested_by
FROM attempts a
JOIN jobs j USING (job_id)
LEFT JOIN job_events request ON request.job_id = j.job_id AND request.event_id = j.cancel_requested_event_id
CROSS JOIN LATERAL (
    SELECT j.ended_at IS NULL AND request.event_id IS NOT NULL
        AND (a.taken_at IS NULL OR coalesce(request.received_at < a.last_received_at, false)) AS disobeys
) rule
WHERE a.status = 'running'
UNION ALL
SELECT
    CASE WHEN cancel_requested_at IS NULL THEN 'not_picked_up' ELSE 'cancel_unconfirmed' END,
    job_id,
    CASE WHEN cancel_requested_at IS NULL THEN 0 END,
    config_type,
    greatest(
        coalesce(cancel_requested_at, created_at, first_seen_at),
        (SELECT max(a.last_heard_at) FROM attempts a WHERE a.job_id = j.job_id)
    ),
    NULL,
    cancel_requested_by
FROM jobs j
WHERE status = 'pending' OR (status = 'incomplete' AND cancel_requested_at IS NOT NULL)
;
