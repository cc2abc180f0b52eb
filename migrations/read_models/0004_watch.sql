-- What the watchdog, the health of dataplanes and readers by workspace need.

-- When the broker last took an event of the attempt: silence is measured by the broker's clock.
ALTER TABLE attempts ADD COLUMN last_received_at timestamptz;
CREATE INDEX attempts_running ON attempts (job_id, attempt_number) WHERE status = 'running';
-- Few values: equal keys are stored once. Finds what runs or waits, and counts all by type.
CREATE INDEX jobs_by_status ON jobs (status, config_type);
CREATE INDEX jobs_by_workspace ON jobs (workspace_id, job_id);
CREATE INDEX jobs_by_scope ON jobs (scope_id, job_id) WHERE workspace_id IS NULL;
CREATE INDEX jobs_by_connection ON jobs (connection_id, (coalesce(created_at, first_seen_at)), job_id);
CREATE INDEX jobs_by_update ON jobs ((coalesce(changed_at, first_seen_at)), job_id);

-- The same of heartbeats: a dataplane whose clock is wrong is alive all the same.
ALTER TABLE heartbeats ADD COLUMN received_at timestamptz;
UPDATE heartbeats SET received_at = heard_at;
ALTER TABLE heartbeats ALTER COLUMN received_at SET NOT NULL;
CREATE INDEX heartbeats_by_receipt ON heartbeats (dataplane_id, received_at);

-- Each dataplane once, by one look into the index for each, however many heartbeats it has.
CREATE VIEW dataplanes AS
WITH RECURSIVE known (dataplane_id) AS (
    SELECT min(dataplane_id) FROM heartbeats
    UNION ALL
    SELECT (SELECT min(h.dataplane_id) FROM heartbeats h WHERE h.dataplane_id > known.dataplane_id)
    FROM known
    WHERE known.dataplane_id IS NOT NULL
)
SELECT known.dataplane_id, newest.received_at AS last_received_at, newest.dataplane_version
FROM known
CROSS JOIN LATERAL (
    SELECT h.received_at, h.dataplane_version
    FROM heartbeats h
    WHERE h.dataplane_id = known.dataplane_id
    ORDER BY h.received_at DESC, h.event_id DESC
    LIMIT 1
) newest;

-- The first start that names its worker: who gave out the attempt's number over HTTP may have started it before.
ALTER TABLE attempts ADD COLUMN taken_at timestamptz, ADD COLUMN taken_event_id uuid;
UPDATE attempts SET taken_at = started_at, taken_event_id = started_event_id;
