-- What the HTTP service, the schedules and the cleanup keep. None of it is a projection; it survives every rebuild.

-- Ids of jobs that the API makes; callers that make their own without asking take them from 2^52 on.
CREATE SEQUENCE job_ids AS bigint MINVALUE 1 MAXVALUE 8796093022207 NO CYCLE;
COMMENT ON SEQUENCE job_ids IS 'Ids of jobs made over HTTP: below 2^43.';

-- Attempt numbers given out over HTTP: the unique key decides who of several callers gets one.
CREATE TABLE attempt_reservations (
    job_id bigint NOT NULL,
    attempt_number smallint NOT NULL CHECK (attempt_number BETWEEN 0 AND 1023),
    reserved_at timestamptz NOT NULL,
    held_until timestamptz NOT NULL,
    idempotency_key text COLLATE "C",
    PRIMARY KEY (job_id, attempt_number)
);
COMMENT ON TABLE attempt_reservations IS 'Attempt numbers given out over HTTP, each once.';
COMMENT ON COLUMN attempt_reservations.reserved_at IS 'When the attempt started: its AttemptStarted bears it.';
COMMENT ON COLUMN attempt_reservations.held_until IS
    'Until when nobody else may have the number; infinity: its caller knows that it has it.';
COMMENT ON COLUMN attempt_reservations.idempotency_key IS 'The Idempotency-Key header of the request that has it.';

-- What was said over HTTP: who repeats it publishes the same events, with the instant of the first time.
CREATE TABLE http_decisions (
    decision_id uuid PRIMARY KEY,
    decided_at timestamptz NOT NULL,
    request_digest text COLLATE "C"
);
COMMENT ON TABLE http_decisions IS 'Ends of attempts and jobs, and requests with an Idempotency-Key, since when.';
COMMENT ON COLUMN http_decisions.request_digest IS 'SHA-256 of what was asked for: one key is for one request.';

-- Requests that a caller may repeat: the same key is answered with the same job.
CREATE TABLE idempotency_keys (
    idempotency_key text COLLATE "C" PRIMARY KEY,
    job_id bigint NOT NULL,
    request_digest text COLLATE "C" NOT NULL,
    used_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE idempotency_keys IS 'Idempotency-Key headers of requests that made a job, and the job.';
COMMENT ON COLUMN idempotency_keys.request_digest IS 'SHA-256 of what was asked for: one key is for one request.';

-- A connection runs one job at a time. The row decides who of several callers makes it, while no read model shows it.
CREATE TABLE connection_reservations (
    connection_id text COLLATE "C" PRIMARY KEY,
    job_id bigint NOT NULL,
    reserved_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE connection_reservations IS 'The job that was last made over HTTP for a connection.';

-- Retention: what is older is deleted, and never merged again; a rebuild ignores it too.
CREATE TABLE horizons (
    name text COLLATE "C" PRIMARY KEY,
    kept_from timestamptz NOT NULL
);
COMMENT ON TABLE horizons IS 'For what cleanup deletes: the instant from which it is kept.';
-- No event is older than the year 2000. The row is there from the start: whoever merges heartbeats holds it.
INSERT INTO horizons (name, kept_from) VALUES ('heartbeats', '2000-01-01Z');

-- Each run of a schedule.
CREATE TABLE schedule_runs (
    schedule text COLLATE "C" NOT NULL,
    started_at timestamptz NOT NULL,
    finished_at timestamptz,
    outcome text COLLATE "C" CHECK (outcome IN ('done', 'failed')),
    detail text COLLATE "C",
    PRIMARY KEY (schedule, started_at)
);
COMMENT ON TABLE schedule_runs IS 'Runs of the schedules: when, and what came of them.';
