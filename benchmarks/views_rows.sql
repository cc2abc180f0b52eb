-- What benchmarks/views.py has beside read_rows.sql: a job in a hundred was cancelled; of one in fifty source and
-- destination counted too, of half of these not the same; some moved nothing. Runs in a generation's schema.

UPDATE attempts
SET status = 'failed', succeeded_at = NULL, succeeded_event_id = NULL, failure_summary = jsonb_build_object(
    'partialSuccess', true, 'failures', jsonb_build_array(jsonb_build_object(
        'timestamp', extract(epoch FROM ended_at)::bigint * 1000, 'failureType', 'manual_cancellation',
        'internalMessage', 'Setting attempt to FAILED because the job was cancelled',
        'externalMessage', 'This attempt was cancelled'
    )))
WHERE attempt_number = 1 AND job_id %% 100 = 7
;
UPDATE jobs SET status = 'cancelled', cancelled_at = ended_at, cancelled_event_id = gen_random_uuid(), cancelled_by = 'ana'
WHERE job_id %% 100 = 7
;
INSERT INTO stream_stats (
    job_id, attempt_number, stream_namespace, stream_name, reporter, sequence, event_id, reported_at, records_emitted,
    records_committed
)
SELECT
    job_id, attempt_number, stream_namespace, stream_name, r.reporter, 1, gen_random_uuid(), reported_at,
    CASE r.reporter WHEN 'source' THEN records_emitted END,
    CASE r.reporter WHEN 'destination' THEN records_committed - CASE WHEN job_id %% 100 = 3 THEN 5 ELSE 0 END END
FROM stream_stats
CROSS JOIN (VALUES ('source'), ('destination')) r (reporter)
WHERE job_id %% 50 = 3
;
INSERT INTO anomalies (job_id, attempt_number, kind, detail)
SELECT id, n, 'counts_differ', '5 streams, such as stream_1: committed more by the platform than by the destination'
FROM generate_series(3, %(jobs)s, 100) id
CROSS JOIN generate_series(0, 1) n
UNION ALL
SELECT id, 1, 'zero_records', 'no records were committed' FROM generate_series(9, %(jobs)s, 500) id
UNION ALL
SELECT id, 1, 'activity_after_end', 'ended at …, heard at …' FROM generate_series(11, %(jobs)s, 200) id
;
