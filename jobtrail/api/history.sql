-- span: Where in the log a job's events are, and when the broker took the last one that the read models hold.
SELECT
    log_partition,
    first_offset,
    last_offset,
    greatest(
        (SELECT max(received_at) FROM jobtrail.job_events WHERE job_id = %(job_id)s),
        (SELECT max(last_received_at) FROM jobtrail.attempts WHERE job_id = %(job_id)s)
    ) AS last_received_at
FROM jobtrail.jobs
WHERE job_id = %(job_id)s
;
-- lifecycle: The events of a job but for stats, statuses and heartbeats.
SELECT event_type, body, received_at
FROM jobtrail.job_events
WHERE job_id = %(job_id)s
;
-- newest: The newest stats and statuses of each stream that the read models hold: what a whole history has.
SELECT attempt_number, stream_name, reported_at AS occurred_at
FROM jobtrail.stream_stats
WHERE job_id = %(job_id)s
UNION
SELECT attempt_number, stream_name, transitioned_at
FROM jobtrail.stream_statuses
WHERE job_id = %(job_id)s
;
