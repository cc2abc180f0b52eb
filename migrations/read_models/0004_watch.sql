-- What the watchdog and readers by workspace need.

-- When the broker last took an event of the attempt: silence is measured by the broker's clock.
ALTER TABLE attempts ADD COLUMN last_received_at timestamptz;
CREATE INDEX attempts_running ON attempts (job_id, attempt_number) WHERE status = 'running';
CREATE INDEX jobs_undecided ON jobs (job_id) WHERE status IN ('pending', 'running', 'incomplete');
CREATE INDEX jobs_by_workspace ON jobs (workspace_id, job_id);
CREATE INDEX jobs_by_scope ON jobs (scope_id, job_id) WHERE workspace_id IS NULL;
CREATE INDEX jobs_by_connection ON jobs (connection_id, job_id);
CREATE INDEX jobs_by_update ON jobs ((coalesce(changed_at, first_seen_at)), job_id);
