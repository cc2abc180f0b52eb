-- What a job's outcome means: how often it was tried in vain, why it failed, and whether counts agree.

ALTER TABLE jobs
    -- Failed attempts that committed nothing, or something: without one of the other kind since, and in all.
    ADD COLUMN successive_complete_failures smallint,
    ADD COLUMN total_complete_failures smallint,
    ADD COLUMN successive_partial_failures smallint,
    ADD COLUMN total_partial_failures smallint,
    -- The first failure of the last failed attempt, cut short; null while nothing failed, or a retry runs or succeeded.
    ADD COLUMN failure_reason jsonb;

-- One row for each stream of an attempt of which two or more reporters count the same thing.
CREATE VIEW stream_reconciliation AS
SELECT
    *,
    source_records_emitted <> platform_records_emitted
        OR platform_records_committed <> destination_records_committed AS differs
FROM (
    SELECT
        job_id,
        attempt_number,
        stream_namespace,
        stream_name,
        max(records_emitted) FILTER (WHERE reporter = 'source') AS source_records_emitted,
        max(records_emitted) FILTER (WHERE reporter = 'platform') AS platform_records_emitted,
        max(records_committed) FILTER (WHERE reporter = 'platform') AS platform_records_committed,
        max(records_committed) FILTER (WHERE reporter = 'destination') AS destination_records_committed
    FROM stream_stats
    GROUP BY job_id, attempt_number, stream_namespace, stream_name
) counts
WHERE source_records_emitted + platform_records_emitted IS NOT NULL
    OR platform_records_committed + destination_records_committed IS NOT NULL;
