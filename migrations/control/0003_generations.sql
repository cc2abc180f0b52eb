-- Which generations of the read models there are, and the rebuild that makes the next one.

CREATE TABLE generations (
    generation integer PRIMARY KEY CHECK (generation > 0),
    version integer NOT NULL CHECK (version > 0),
    phase text COLLATE "C" NOT NULL CHECK (phase IN ('making', 'reading', 'indexing', 'deriving', 'ready', 'live')),
    begun_at timestamptz NOT NULL DEFAULT now(),
    phase_at timestamptz NOT NULL DEFAULT now(),
    cancel_requested boolean NOT NULL DEFAULT false,
    indexes jsonb NOT NULL DEFAULT '[]'
);
COMMENT ON TABLE generations IS 'Generations of the read models: the live one, and one that a rebuild makes.';
COMMENT ON COLUMN generations.version IS 'The version of the rules and columns that it was made by.';
COMMENT ON COLUMN generations.phase IS 'How far its rebuild is; live: readers see it.';
COMMENT ON COLUMN generations.indexes IS 'Keys and indexes that are made once all rows are there, as DDL.';
INSERT INTO generations (generation, version, phase) SELECT generation, 1, 'live' FROM current_generation;

-- What a rebuild reads: its checkpoints say how far it is.
CREATE TABLE rebuild_parts (
    generation integer NOT NULL REFERENCES generations ON DELETE CASCADE,
    topic_id text COLLATE "C" NOT NULL,
    log_partition integer NOT NULL CHECK (log_partition >= 0),
    topic text COLLATE "C" NOT NULL,
    archived_to bigint NOT NULL CHECK (archived_to >= 0),
    end_offset bigint NOT NULL CHECK (end_offset >= 0),
    PRIMARY KEY (generation, topic_id, log_partition)
);
COMMENT ON TABLE rebuild_parts IS 'What a rebuild reads, from the beginning of each partition to its end.';
COMMENT ON COLUMN rebuild_parts.archived_to IS 'Offsets before this one are read from the archive.';
COMMENT ON COLUMN rebuild_parts.end_offset IS 'Next offset after the last one that is read in the first go.';
