-- runs: Syncs and refreshes that changed since a moment and ended. One that waits for a retry in vain has failed once
-- nobody waits for it any more.
SELECT
    j.connection_id,
    j.job_id,
    j.workspace_id,
    (extract(epoch FROM j.created_at) * 1000000)::bigint AS began,
    (extract(epoch FROM over.at) * 1000000)::bigint AS ended,
    CASE j.status WHEN 'incomplete' THEN 'failed' ELSE j.status END AS outcome,
    coalesce(j.records_committed, j.records_emitted)::bigint AS records,
    CASE WHEN j.status IN ('failed', 'incomplete') AND j.failure_reason ->> 'failureType' = 'config_error'
        THEN concat_ws(
            ': ',
            j.failure_reason ->> 'failureOrigin',
            coalesce(j.failure_reason ->> 'externalMessage', j.failure_reason ->> 'internalMessage')
        ) END AS config_error
FROM jobtrail.jobs j
CROSS JOIN LATERAL (
    SELECT CASE j.status
        WHEN 'incomplete' THEN (
            SELECT max(a.ended_at) FROM jobtrail.attempts a WHERE a.job_id = j.job_id
        ) + make_interval(secs => %(retry_wait)s)
        ELSE j.ended_at
    END AS at
) over
WHERE j.connection_id IS NOT NULL
    AND j.config_type IN ('sync', 'refresh')
    AND j.updated_at >= %(since)s
    AND over.at <= %(until)s
;
-- undecided: Jobs that changed since a moment and have not ended: what was known of them as runs no longer holds.
SELECT j.job_id
FROM jobtrail.jobs j
WHERE j.updated_at >= %(since)s AND j.ended_at IS NULL AND j.connection_id IS NOT NULL
;
-- letters: Dead letters that the broker took since a moment.
SELECT (extract(epoch FROM broker_at) * 1000000)::bigint AS at, reason
FROM jobtrail.dead_letters
WHERE broker_at >= %(since)s AND broker_at <= %(until)s
ORDER BY broker_at
;
-- lags: What alerters saw of the lag since a moment.
SELECT
    (extract(epoch FROM at) * 1000000)::bigint AS at,
    (extract(epoch FROM behind) * 1000000)::bigint AS behind,
    messages
FROM jobtrail.alert_lags
WHERE at >= %(since)s AND at <= %(until)s
ORDER BY at
;
-- first: When the first job of a connection was created.
SELECT created_at FROM jobtrail.jobs WHERE connection_id IS NOT NULL ORDER BY created_at LIMIT 1
;
-- extent: About how many jobs there are to read.
SELECT count(*) AS jobs FROM jobtrail.jobs WHERE updated_at >= %(since)s
;
