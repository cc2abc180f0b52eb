-- Who rebuilt the read models, when, and what came of it.
CREATE TABLE rebuild_runs (
    begun_at timestamptz PRIMARY KEY DEFAULT clock_timestamp(),
    begun_by text COLLATE "C" NOT NULL,
    ended_at timestamptz,
    result text COLLATE "C" CHECK (result IN ('swapped', 'compared', 'refused', 'cancelled', 'failed')),
    detail text COLLATE "C",
    CHECK (num_nulls(ended_at, result, detail) IN (0, 3))
);
COMMENT ON TABLE rebuild_runs IS 'Runs of rebuilds: one at a time.';
COMMENT ON COLUMN rebuild_runs.begun_by IS 'Who began it.';
COMMENT ON COLUMN rebuild_runs.ended_at IS 'When it came to an end; null: it runs, or its process was ended before.';
COMMENT ON COLUMN rebuild_runs.result IS 'What came of it; compared: it was not to be swapped in.';
COMMENT ON COLUMN rebuild_runs.detail IS 'The same, for a person.';

-- Those that were retried or dropped last are shown on a page.
CREATE INDEX dead_letters_resolved ON dead_letters (resolved_at) WHERE resolution IS NOT NULL;
