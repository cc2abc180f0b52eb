-- checkpoints: Partition → next offset of one topic, in the live generation.
SELECT log_partition, next_offset
FROM jobtrail.checkpoints JOIN jobtrail.current_generation USING (generation)
WHERE projection_set = %(set)s AND topic_id = %(topic_id)s
;
-- known_topic_ids: Ids under which a topic of this name was folded into the live generation.
SELECT DISTINCT topic_id
FROM jobtrail.checkpoints JOIN jobtrail.current_generation USING (generation)
WHERE projection_set = %(set)s AND topic = %(topic)s
;
-- advance: Moves checkpoints that are where they are expected.
UPDATE checkpoints c SET next_offset = m.next
FROM unnest(%(topic_id)s::text[], %(partition)s::int[], %(expected)s::bigint[], %(next)s::bigint[])
    AS m (topic_id, log_partition, expected, next)
WHERE c.projection_set = %(set)s AND c.generation = %(generation)s
    AND c.topic_id = m.topic_id AND c.log_partition = m.log_partition AND c.next_offset = m.expected
RETURNING c.log_partition
;
-- begin: Makes the checkpoints of partitions that are read from their very beginning.
INSERT INTO checkpoints (projection_set, generation, topic_id, log_partition, topic, next_offset)
SELECT %(set)s, %(generation)s, topic_id, log_partition, topic, next
FROM unnest(
    %(topic_id)s::text[], %(topic)s::text[], %(partition)s::int[], %(expected)s::bigint[], %(next)s::bigint[]
) AS m (topic_id, topic, log_partition, expected, next)
WHERE expected = 0
ON CONFLICT DO NOTHING
RETURNING log_partition
;
-- dead_letter: Keeps a message that cannot become an event; one that is already kept stays as it is.
INSERT INTO dead_letters (topic_id, partition, "offset", topic, broker_at, key, value, reason, detail)
VALUES (
    %(topic_id)s, %(partition)s, %(offset)s, %(topic)s, %(broker_at)s, %(key)s, %(value)s, %(reason)s, %(detail)s
)
ON CONFLICT DO NOTHING
;
-- touch_everything: Every job, for a rebuild's only derivation.
INSERT INTO touched SELECT job_id FROM jobs UNION SELECT job_id FROM attempts
;
-- touch: Which jobs have to be derived anew after a merge: those with lifecycle events; and, where something else
-- was heard of an attempt, those that are decided, and those of which that attempt ended, failed, or is new. What runs
-- after an attempt that failed says much, and changes nothing that is derived.
INSERT INTO touched
SELECT unnest(%(lifecycle)s::bigint[])
UNION
SELECT s.job_id
FROM unnest(%(jobs)s::bigint[], %(numbers)s::smallint[]) AS s (job_id, attempt_number)
WHERE EXISTS (
    SELECT FROM jobs j WHERE j.job_id = s.job_id AND j.ended_at IS NOT NULL
) OR EXISTS (
    SELECT FROM attempts a
    WHERE a.job_id = s.job_id AND a.attempt_number = s.attempt_number
        AND (a.status IS NULL
            OR coalesce(a.succeeded_at, a.failed_at, a.cancelled_at, a.failure_at) IS NOT NULL)
)
;
