-- open: How many dead letters are open, by reason, and how many of them are of the last hour.
SELECT reason, count(*) AS letters, count(*) FILTER (WHERE kept_at > now() - interval '1 hour') AS new
FROM jobtrail.dead_letters
WHERE resolution IS NULL
GROUP BY reason
ORDER BY reason
;
-- reasons: Every reason that a letter has, open or not.
SELECT DISTINCT reason FROM jobtrail.dead_letters ORDER BY reason
;
-- groups: Letters by reason: how many, from when to when, and the place of the last.
SELECT *
FROM (
    SELECT DISTINCT ON (reason)
        reason,
        count(*) OVER same AS letters,
        min(broker_at) OVER same AS first_at,
        max(broker_at) OVER same AS last_at,
        format('%%s:%%s:%%s', topic, partition, "offset") AS place
    FROM jobtrail.dead_letters
    WHERE (resolution IS NOT NULL) = %(resolved)s
        AND (%(since)s::timestamptz IS NULL OR broker_at >= %(since)s)
    WINDOW same AS (PARTITION BY reason)
    ORDER BY reason, broker_at DESC, topic_id, partition, "offset" DESC
) by_reason
ORDER BY letters DESC, reason
;
-- count: How many of them there are.
SELECT count(*) AS letters
FROM jobtrail.dead_letters
WHERE (resolution IS NOT NULL) = %(resolved)s
    AND (%(reason)s::text IS NULL OR reason = %(reason)s)
    AND (%(since)s::timestamptz IS NULL OR broker_at >= %(since)s)
;
-- newest: The newest of them, without their values.
SELECT topic, topic_id, partition, "offset", broker_at, key, NULL::bytea AS value, reason, detail, kept_at,
    octet_length(value) AS value_bytes, published_at, resolution, resolved_at, resolved_by, retried_as
FROM jobtrail.dead_letters
WHERE (resolution IS NOT NULL) = %(resolved)s
    AND (%(reason)s::text IS NULL OR reason = %(reason)s)
    AND (%(since)s::timestamptz IS NULL OR broker_at >= %(since)s)
ORDER BY broker_at DESC, topic_id, partition, "offset" DESC
LIMIT %(limit)s
;
-- resolved: Those that were retried or dropped last, without their values.
SELECT topic, topic_id, partition, "offset", broker_at, key, NULL::bytea AS value, reason, detail, kept_at,
    octet_length(value) AS value_bytes, published_at, resolution, resolved_at, resolved_by, retried_as
FROM jobtrail.dead_letters
WHERE resolution IS NOT NULL
ORDER BY resolved_at DESC, topic_id, partition, "offset" DESC
LIMIT %(limit)s
;
-- every: All of them with their values, by topic and place, from behind a place on.
SELECT topic, topic_id, partition, "offset", broker_at, key, value, reason, detail, kept_at,
    octet_length(value) AS value_bytes, published_at, resolution, resolved_at, resolved_by, retried_as
FROM jobtrail.dead_letters
WHERE (resolution IS NOT NULL) = %(resolved)s
    AND (%(reason)s::text IS NULL OR reason = %(reason)s)
    AND (%(since)s::timestamptz IS NULL OR broker_at >= %(since)s)
    AND (
        %(topic)s::text IS NULL
        OR (topic, topic_id, partition, "offset") > (%(topic)s, %(topic_id)s, %(partition)s::int, %(offset)s::bigint)
    )
ORDER BY topic, topic_id, partition, "offset"
;
-- at: What is at a place, whose topic is told by its name or its id.
SELECT topic, topic_id, partition, "offset", broker_at, key, value, reason, detail, kept_at,
    octet_length(value) AS value_bytes, published_at, resolution, resolved_at, resolved_by, retried_as
FROM jobtrail.dead_letters
WHERE (topic = %(topic)s OR topic_id = %(topic)s) AND partition = %(partition)s AND "offset" = %(offset)s
ORDER BY topic_id
;
-- waiting: How many letters with a reason are open, and what time it is: later ones were put aside after that.
SELECT count(*) AS letters, clock_timestamp() AS now
FROM jobtrail.dead_letters
WHERE resolution IS NULL AND reason = %(reason)s
;
-- choose: The keys of the open letters, of those with a reason, of those put aside until then; in the log's order.
SELECT topic_id, partition, "offset"
FROM jobtrail.dead_letters
WHERE resolution IS NULL AND (%(reason)s::text IS NULL OR reason = %(reason)s)
    AND (%(kept_until)s::timestamptz IS NULL OR kept_at <= %(kept_until)s)
ORDER BY topic_id, partition, "offset"
;
-- choose_understood: The same, of the open ones whose schema was unknown, and begins as one of these does.
SELECT topic_id, partition, "offset"
FROM jobtrail.dead_letters
WHERE resolution IS NULL AND reason = 'unknown_schema' AND substring(value FOR %(size)s) = ANY(%(headers)s::bytea[])
ORDER BY topic_id, partition, "offset"
;
-- take: Letters by their keys, but for those that were retried meanwhile; held until the transaction ends.
SELECT d.topic, d.topic_id, d.partition, d."offset", d.broker_at, d.key, d.value, d.reason, d.detail
FROM jobtrail.dead_letters d
JOIN unnest(%(topic_ids)s::text[], %(partitions)s::int[], %(offsets)s::bigint[]) AS k (topic_id, partition, "offset")
    ON d.topic_id = k.topic_id AND d.partition = k.partition AND d."offset" = k."offset"
WHERE d.resolution IS DISTINCT FROM 'retried'
ORDER BY d.topic_id, d.partition, d."offset"
FOR UPDATE OF d
;
-- retried: Says of letters that they were published anew, and where.
UPDATE jobtrail.dead_letters d
SET resolution = 'retried', resolved_at = clock_timestamp(), resolved_by = %(by)s,
    retried_as = k.retried_as
FROM unnest(%(topic_ids)s::text[], %(partitions)s::int[], %(offsets)s::bigint[], %(retried_as)s::text[])
    AS k (topic_id, partition, "offset", retried_as)
WHERE d.topic_id = k.topic_id AND d.partition = k.partition AND d."offset" = k."offset"
;
-- drop: Takes open letters from the lists.
UPDATE jobtrail.dead_letters d
SET resolution = 'dropped', resolved_at = clock_timestamp(), resolved_by = %(by)s
FROM unnest(%(topic_ids)s::text[], %(partitions)s::int[], %(offsets)s::bigint[]) AS k (topic_id, partition, "offset")
WHERE d.topic_id = k.topic_id AND d.partition = k.partition AND d."offset" = k."offset" AND d.resolution IS NULL
;
