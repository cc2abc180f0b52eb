-- The read models of one generation. Runs in the generation's schema; every generation is made by these files.
-- Text compares by bytes (COLLATE "C"), as the fold does. Merged columns are declared in projections/tables.py,
-- derived ones are filled by projections/derive.sql. fillfactor leaves room for updates within the page.

CREATE TABLE jobs (
    job_id bigint PRIMARY KEY CHECK (job_id >= 0),
    created_at timestamptz,
    created_event_id uuid,
    config_type text COLLATE "C",
    config_id text COLLATE "C",
    connection_id text COLLATE "C",
    scope_type text COLLATE "C",
    scope_id text COLLATE "C",
    workspace_id text COLLATE "C",
    streams text COLLATE "C",
    streams_to_reset text COLLATE "C",
    streams_to_refresh text COLLATE "C",
    labels text COLLATE "C",
    failed_at timestamptz,
    failed_event_id uuid,
    cancelled_at timestamptz,
    cancelled_event_id uuid,
    cancelled_by text COLLATE "C",
    cancel_requested_at timestamptz,
    cancel_requested_event_id uuid,
    cancel_requested_by text COLLATE "C",
    first_seen_at timestamptz NOT NULL,
    changed_at timestamptz,
    log_partition integer,
    first_offset bigint,
    last_offset bigint,
    -- derived
    status text COLLATE "C" CHECK (
        status IN ('pending', 'running', 'incomplete', 'failed', 'succeeded', 'cancelled')
    ),
    started_at timestamptz,
    ended_at timestamptz
) WITH (fillfactor = 70);
-- In the order of lists, and with what lists filter by: a page is read as it stands, and counted in the index alone.
CREATE INDEX jobs_by_config ON jobs (config_id, (coalesce(created_at, first_seen_at)), job_id)
    INCLUDE (config_type, status);
CREATE INDEX jobs_by_creation ON jobs ((coalesce(created_at, first_seen_at)), job_id);

CREATE TABLE attempts (
    job_id bigint NOT NULL,
    attempt_number smallint NOT NULL CHECK (attempt_number BETWEEN 0 AND 1023),
    started_at timestamptz,
    started_event_id uuid,
    worker text COLLATE "C",
    dataplane text COLLATE "C",
    source_image text COLLATE "C",
    source_version text COLLATE "C",
    destination_image text COLLATE "C",
    destination_version text COLLATE "C",
    succeeded_at timestamptz,
    succeeded_event_id uuid,
    failed_at timestamptz,
    failed_event_id uuid,
    cancelled_at timestamptz,
    cancelled_event_id uuid,
    cancelled_by text COLLATE "C",
    failure_at timestamptz,
    failure_event_id uuid,
    first_heard_at timestamptz NOT NULL,
    last_heard_at timestamptz NOT NULL,
    -- derived
    status text COLLATE "C" CHECK (status IN ('running', 'failed', 'succeeded')),
    ended_at timestamptz,
    PRIMARY KEY (job_id, attempt_number)
) WITH (fillfactor = 70);

-- Every event of a job but those that come by the thousand.
CREATE TABLE job_events (
    job_id bigint NOT NULL,
    event_id uuid NOT NULL,
    event_type text COLLATE "C" NOT NULL,
    occurred_at timestamptz NOT NULL,
    attempt_number smallint,
    body text COLLATE "C" NOT NULL,
    digest_low bigint NOT NULL,
    digest_high bigint NOT NULL,
    received_at timestamptz NOT NULL,
    PRIMARY KEY (job_id, event_id)
);

CREATE TABLE stream_stats (
    job_id bigint NOT NULL,
    attempt_number smallint NOT NULL,
    stream_namespace text COLLATE "C" NOT NULL,
    stream_name text COLLATE "C" NOT NULL,
    reporter text COLLATE "C" NOT NULL,
    sequence bigint NOT NULL,
    event_id uuid NOT NULL,
    reported_at timestamptz NOT NULL,
    records_emitted bigint,
    bytes_emitted bigint,
    state_messages_emitted bigint,
    records_committed bigint,
    bytes_committed bigint,
    records_rejected bigint,
    estimated_records bigint,
    estimated_bytes bigint,
    PRIMARY KEY (job_id, attempt_number, stream_namespace, stream_name, reporter)
) WITH (fillfactor = 70);

CREATE TABLE stream_statuses (
    job_id bigint NOT NULL,
    attempt_number smallint NOT NULL,
    stream_namespace text COLLATE "C" NOT NULL,
    stream_name text COLLATE "C" NOT NULL,
    run_state text COLLATE "C" NOT NULL,
    transitioned_at timestamptz NOT NULL,
    event_id uuid NOT NULL,
    incomplete_run_cause text COLLATE "C",
    quota_reset_at timestamptz,
    PRIMARY KEY (job_id, attempt_number, stream_namespace, stream_name, run_state)
);

CREATE TABLE workspaces (
    workspace_id text COLLATE "C" PRIMARY KEY,
    registered_at timestamptz NOT NULL,
    event_id uuid NOT NULL,
    organization_id text COLLATE "C",
    is_default boolean NOT NULL,
    name text COLLATE "C"
);
CREATE INDEX workspaces_by_organization ON workspaces (organization_id);

CREATE TABLE heartbeats (
    dataplane_id text COLLATE "C" NOT NULL,
    event_id uuid NOT NULL,
    heard_at timestamptz NOT NULL,
    dataplane_version text COLLATE "C",
    PRIMARY KEY (dataplane_id, event_id)
);
CREATE INDEX heartbeats_by_time ON heartbeats (dataplane_id, heard_at);

-- Contradictions between events; wholly derived, so a later event can take one back. -1: the job itself.
CREATE TABLE anomalies (
    job_id bigint NOT NULL,
    attempt_number smallint NOT NULL CHECK (attempt_number BETWEEN -1 AND 1023),
    kind text COLLATE "C" NOT NULL,
    detail text COLLATE "C" NOT NULL,
    PRIMARY KEY (job_id, attempt_number, kind)
);
