-- Dead letters come to an end: retried once they can be understood, or dropped. None is ever deleted.
ALTER TABLE dead_letters ADD COLUMN kept_at timestamptz;
UPDATE dead_letters SET kept_at = broker_at;
ALTER TABLE dead_letters
    ALTER COLUMN kept_at SET DEFAULT clock_timestamp(),
    ALTER COLUMN kept_at SET NOT NULL,
    ADD COLUMN resolution text COLLATE "C" CHECK (resolution IN ('retried', 'dropped')),
    ADD COLUMN resolved_at timestamptz,
    ADD COLUMN resolved_by text COLLATE "C",
    ADD COLUMN retried_as text COLLATE "C",
    ADD CHECK (num_nulls(resolution, resolved_at, resolved_by) IN (0, 3));
COMMENT ON COLUMN dead_letters.kept_at IS 'When it was put aside; of one older than this column, when the broker had it.';
COMMENT ON COLUMN dead_letters.resolution IS 'What became of it; null: it is open.';
COMMENT ON COLUMN dead_letters.resolved_at IS 'When that was done.';
COMMENT ON COLUMN dead_letters.resolved_by IS 'Who did it.';
COMMENT ON COLUMN dead_letters.retried_as IS 'Where a retry published it: topic:partition:offset.';
CREATE INDEX dead_letters_open ON dead_letters (reason, kept_at) WHERE resolution IS NULL;
