-- Working tables of derive.sql; each transaction leaves them empty.
CREATE TEMP TABLE IF NOT EXISTS touched (job_id bigint PRIMARY KEY)
;
CREATE TEMP TABLE IF NOT EXISTS own_ends (
    job_id bigint, attempt_number smallint, begun_at timestamptz, started_event_id uuid, last_heard_at timestamptz,
    kind text, at timestamptz, event_id uuid
)
;
CREATE TEMP TABLE IF NOT EXISTS decisions (
    job_id bigint, kind text, at timestamptz, event_id uuid
)
;
CREATE TEMP TABLE IF NOT EXISTS ends (
    job_id bigint, attempt_number smallint, begun_at timestamptz, started_event_id uuid, last_heard_at timestamptz,
    kind text, at timestamptz
)
;
CREATE TEMP TABLE IF NOT EXISTS found (
    job_id bigint, attempt_number smallint, kind text, detail text
)
;
