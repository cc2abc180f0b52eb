-- constraints: Keys of a generation's tables, as DDL.
SELECT c.relname, k.conname, pg_get_constraintdef(k.oid)
FROM pg_constraint k
JOIN pg_class c ON c.oid = k.conrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %(schema)s AND k.contype IN ('p', 'u') AND c.relname NOT LIKE '\_yoyo%%' AND c.relname <> 'yoyo_lock'
ORDER BY c.relname, k.conname
;
-- indexes: The other indexes of a generation's tables, as DDL.
SELECT c.relname, i.relname, pg_get_indexdef(x.indexrelid)
FROM pg_index x
JOIN pg_class i ON i.oid = x.indexrelid
JOIN pg_class c ON c.oid = x.indrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %(schema)s AND c.relname NOT LIKE '\_yoyo%%' AND c.relname <> 'yoyo_lock'
    AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = x.indexrelid)
ORDER BY c.relname, i.relname
;
-- next_generation: The number after every one that there is or was.
SELECT greatest(
    (SELECT max(generation) FROM generations),
    (SELECT max(substring(nspname FROM '^jobtrail_g(\d+)$')::integer) FROM pg_namespace WHERE nspname ~ '^jobtrail_g\d+$')
) + 1
;
-- register: A generation that is being made.
INSERT INTO generations (generation, version, phase) VALUES (%(generation)s, %(version)s, 'making')
;
-- unfinished: The generation that a rebuild was making, if there is one.
SELECT g.generation, g.version, g.phase, g.begun_at, g.phase_at, g.cancel_requested
FROM jobtrail.generations g
JOIN jobtrail.current_generation c ON c.generation <> g.generation
WHERE g.phase <> 'live'
ORDER BY g.generation DESC
LIMIT 1
;
-- live: The live generation and its version, and whether somebody holds the lock of rebuilds.
SELECT c.generation, coalesce(g.version, 0) AS version,
    EXISTS (
        SELECT FROM pg_locks
        WHERE locktype = 'advisory' AND classid = %(class)s AND objid = %(object)s AND objsubid = 2 AND granted
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    ) AS running
FROM jobtrail.current_generation c
LEFT JOIN jobtrail.generations g USING (generation)
;
-- progress: Offsets whose rows a generation has, of how many.
SELECT coalesce(sum(coalesce(c.next_offset, 0)), 0)::bigint AS read, coalesce(sum(p.end_offset), 0)::bigint AS total
FROM jobtrail.rebuild_parts p
LEFT JOIN jobtrail.checkpoints c
    ON c.generation = p.generation AND c.topic_id = p.topic_id AND c.log_partition = p.log_partition
    AND c.projection_set = %(set)s
WHERE p.generation = %(generation)s
;
-- last_run: The newest run of a rebuild.
SELECT begun_at, begun_by, ended_at, result, detail FROM jobtrail.rebuild_runs ORDER BY begun_at DESC LIMIT 1
;
-- begin_run: A rebuild begins.
INSERT INTO jobtrail.rebuild_runs (begun_by) VALUES (%(by)s) RETURNING begun_at
;
-- end_run: It ends.
UPDATE jobtrail.rebuild_runs SET ended_at = clock_timestamp(), result = %(result)s, detail = %(detail)s
WHERE begun_at = %(begun_at)s
;
-- set_phase: How far a rebuild is.
UPDATE generations SET phase = %(phase)s, phase_at = now() WHERE generation = %(generation)s
;
-- keep_indexes: Remembers what is made once all rows are there.
UPDATE generations SET indexes = %(indexes)s WHERE generation = %(generation)s
;
-- kept_indexes: What was remembered.
SELECT indexes FROM generations WHERE generation = %(generation)s
;
-- request_cancel: Asks the process that rebuilds to stop and clean up.
UPDATE generations SET cancel_requested = true WHERE generation = %(generation)s
;
-- is_cancelled: Whether somebody asked.
SELECT cancel_requested FROM generations WHERE generation = %(generation)s
;
-- forget: Nothing of a generation stays but its rows' schema, which is dropped by name.
WITH forgotten AS (DELETE FROM generations WHERE generation = %(generation)s)
DELETE FROM checkpoints WHERE generation = %(generation)s
;
-- plan_part: One partition that is read.
INSERT INTO rebuild_parts (generation, topic_id, log_partition, topic, archived_to, end_offset)
VALUES (%(generation)s, %(topic_id)s, %(partition)s, %(topic)s, %(archived_to)s, %(end)s)
;
-- plan_checkpoint: Where its reading begins; also of a partition that is empty, so that its topic's id is known.
INSERT INTO checkpoints (projection_set, generation, topic_id, log_partition, topic, next_offset)
VALUES (%(set)s, %(generation)s, %(topic_id)s, %(partition)s, %(topic)s, 0)
;
-- parts: What is read, and how far each partition is.
SELECT p.topic, p.topic_id, p.log_partition AS partition, p.archived_to, p.end_offset AS end, coalesce(c.next_offset, 0) AS at
FROM rebuild_parts p
LEFT JOIN checkpoints c USING (generation, topic_id, log_partition)
WHERE p.generation = %(generation)s AND coalesce(c.projection_set, %(set)s) = %(set)s
ORDER BY p.topic, p.topic_id, p.log_partition
;
-- checkpoints_of: Where a generation is in every partition: topic, topic id, partition, next offset.
SELECT topic, topic_id, log_partition, next_offset
FROM jobtrail.checkpoints
WHERE projection_set = %(set)s AND generation = %(generation)s
ORDER BY topic, topic_id, log_partition
;
-- refused: Offsets that Postgres refused, so that their events are in no read model: topic id, partition, offset.
SELECT topic_id, partition, "offset" FROM jobtrail.dead_letters
WHERE reason = 'refused_by_postgres' AND resolution IS DISTINCT FROM 'retried'
;
-- sizes: Bytes of each table.
SELECT relname, pg_relation_size(oid) FROM pg_class WHERE relnamespace = %(schema)s::regnamespace AND relkind = 'r'
;
-- bounds: The first job of every so many, for deriving in pieces.
SELECT job_id
FROM (SELECT job_id, row_number() OVER (ORDER BY job_id) AS place FROM jobs) numbered
WHERE place %% %(size)s = 1 OR %(size)s = 1
ORDER BY job_id
;
-- touch_range: The jobs of one piece; without an end to the last.
INSERT INTO touched
SELECT job_id FROM jobs WHERE job_id >= %(from)s AND (%(to)s::bigint IS NULL OR job_id < %(to)s)
;
-- ignore_heartbeats: Those older than the horizon, but for the newest of each dataplane.
DELETE FROM heartbeats h
USING horizons z
WHERE z.name = 'heartbeats' AND h.heard_at < z.kept_from
    AND EXISTS (
        SELECT FROM heartbeats n
        WHERE n.dataplane_id = h.dataplane_id AND (n.heard_at, n.event_id) > (h.heard_at, h.event_id)
    )
;
-- swap: Makes a generation the live one.
UPDATE current_generation SET generation = %(generation)s
;
-- retire: The one that was live before it.
DELETE FROM generations WHERE generation = %(generation)s
;
-- kept_from: From when on heartbeats are kept.
SELECT kept_from FROM horizons WHERE name = 'heartbeats'
;
