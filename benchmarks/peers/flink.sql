-- Flink SQL for benchmarks/replay.py: StreamStats as plain Avro from Kafka, upserted into Postgres by the table's key.
-- Bounded, so that the job ends by itself behind the last record. Times lose their microseconds: its Avro format takes
-- timestamp-micros for milliseconds, and its SQL makes timestamps of numbers in milliseconds only.

CREATE TABLE stats (
    event_id STRING NOT NULL,
    occurred_at BIGINT NOT NULL,
    job_id BIGINT NOT NULL,
    attempt_number BIGINT NOT NULL,
    stream_namespace STRING,
    stream_name STRING NOT NULL,
    reporter STRING NOT NULL,
    `sequence` BIGINT NOT NULL,
    records_emitted BIGINT,
    bytes_emitted BIGINT,
    state_messages_emitted BIGINT,
    records_committed BIGINT,
    bytes_committed BIGINT,
    records_rejected BIGINT,
    estimated_records BIGINT,
    estimated_bytes BIGINT
) WITH (
    'connector' = 'kafka',
    'topic' = '{topic}',
    'properties.bootstrap.servers' = '{kafka}',
    'properties.max.poll.records' = '10000',
    'properties.fetch.min.bytes' = '1',
    'properties.max.partition.fetch.bytes' = '8388608',
    'scan.startup.mode' = 'earliest-offset',
    'scan.bounded.mode' = 'latest-offset',
    'value.format' = 'avro'
)
;
CREATE TABLE stream_stats (
    job_id BIGINT,
    attempt_number SMALLINT,
    stream_namespace STRING,
    stream_name STRING,
    reporter STRING,
    `sequence` BIGINT,
    event_id STRING,
    reported_at TIMESTAMP(3),
    records_emitted BIGINT,
    bytes_emitted BIGINT,
    state_messages_emitted BIGINT,
    records_committed BIGINT,
    bytes_committed BIGINT,
    records_rejected BIGINT,
    estimated_records BIGINT,
    estimated_bytes BIGINT,
    PRIMARY KEY (job_id, attempt_number, stream_namespace, stream_name, reporter) NOT ENFORCED
) WITH (
    'connector' = 'jdbc',
    'url' = '{jdbc}?reWriteBatchedInserts=true&stringtype=unspecified',
    'username' = '{user}',
    'password' = '{password}',
    'table-name' = 'stream_stats',
    'sink.buffer-flush.max-rows' = '{rows}',
    'sink.buffer-flush.interval' = '1s'
)
;
INSERT INTO stream_stats
SELECT
    job_id, CAST(attempt_number AS SMALLINT), COALESCE(stream_namespace, ''), stream_name, reporter,
    `sequence`, event_id, CAST(TO_TIMESTAMP_LTZ(occurred_at / 1000, 3) AS TIMESTAMP(3)),
    records_emitted, bytes_emitted, state_messages_emitted, records_committed, bytes_committed,
    records_rejected, estimated_records, estimated_bytes
FROM stats
