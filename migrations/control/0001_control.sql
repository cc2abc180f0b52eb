-- What stands beside the read models and survives every rebuild. Runs in schema jobtrail.

-- One row: the generation of the read models that readers see. Each generation has a schema, jobtrail_g<number>.
CREATE TABLE current_generation (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    generation integer NOT NULL CHECK (generation > 0)
);
COMMENT ON TABLE current_generation IS 'Which generation of the read models is live.';
INSERT INTO current_generation (generation) VALUES (1);

-- How far a projection set has folded the log; moved in the transaction of the rows.
CREATE TABLE checkpoints (
    projection_set text COLLATE "C" NOT NULL,
    generation integer NOT NULL,
    topic_id text COLLATE "C" NOT NULL,
    log_partition integer NOT NULL CHECK (log_partition >= 0),
    topic text COLLATE "C" NOT NULL,
    next_offset bigint NOT NULL CHECK (next_offset >= 0),
    PRIMARY KEY (projection_set, generation, topic_id, log_partition)
) WITH (fillfactor = 50);
COMMENT ON TABLE checkpoints IS 'Next offset to fold, for each partition of each topic (by the topic''s id).';

-- Messages that cannot become events, as they came. Written in the transaction that passes them by.
CREATE TABLE dead_letters (
    topic_id text COLLATE "C" NOT NULL,
    partition integer NOT NULL,
    "offset" bigint NOT NULL,
    topic text COLLATE "C" NOT NULL,
    broker_at timestamptz NOT NULL,
    key bytea,
    value bytea,
    reason text COLLATE "C" NOT NULL,
    detail text COLLATE "C" NOT NULL,
    published_at timestamptz,
    PRIMARY KEY (topic_id, partition, "offset")
);
COMMENT ON TABLE dead_letters IS 'Messages that could not become events, with their place in the log, bytes untouched.';
COMMENT ON COLUMN dead_letters.published_at IS 'When the relay had them in the dead-letter topic; null: not yet.';
CREATE INDEX dead_letters_to_publish ON dead_letters (broker_at) WHERE published_at IS NULL;
