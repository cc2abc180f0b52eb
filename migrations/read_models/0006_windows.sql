-- Windows of event time, as `jobtrail analytics` publishes them: one row for each window, partition of the log and
-- what it is about (a connector, a connection, a stream); window_id is a hash of these.
CREATE TABLE windows (
    window_id text COLLATE "C" PRIMARY KEY,
    sequence bigint NOT NULL,
    event_id uuid NOT NULL,
    computed_at timestamptz NOT NULL,
    starts_at timestamptz NOT NULL,
    ends_at timestamptz NOT NULL,
    measure text COLLATE "C" NOT NULL,
    window_type text COLLATE "C" NOT NULL,
    log_partition bigint NOT NULL,
    connection_id text COLLATE "C",
    connector_role text COLLATE "C",
    connector text COLLATE "C",
    failure_origin text COLLATE "C",
    failure_type text COLLATE "C",
    stream_namespace text COLLATE "C",
    stream_name text COLLATE "C",
    attempts_succeeded bigint,
    attempts_failed bigint,
    attempts_cancelled bigint,
    attempts_timed bigint,
    duration_ms bigint,
    longest_ms bigint,
    records_emitted bigint,
    bytes_emitted bigint,
    records_committed bigint,
    bytes_committed bigint,
    streams_stalled bigint,
    messages_refused bigint
) WITH (fillfactor = 70);
CREATE INDEX windows_by_start ON windows (measure, window_type, starts_at);
