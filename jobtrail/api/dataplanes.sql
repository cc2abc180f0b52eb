-- health: The last sign of life of each dataplane of a list, or of all, its recent ones, and what time it is. One that
-- was never heard of has a row if the list names it. The version is the last one that a recent heartbeat told.
SELECT
    d.dataplane_id,
    known.last_received_at AS last_heard_at,
    now() AS now,
    coalesce(told.dataplane_version, known.dataplane_version) AS dataplane_version,
    coalesce(recent.heard_at, '{}') AS recent
FROM (
    SELECT DISTINCT unnest(%(ids)s::text[]) AS dataplane_id
    UNION ALL
    SELECT dataplane_id FROM jobtrail.dataplanes WHERE %(ids)s::text[] IS NULL
) d
LEFT JOIN jobtrail.dataplanes known ON known.dataplane_id = d.dataplane_id
LEFT JOIN LATERAL (
    SELECT array_agg(newest.received_at ORDER BY newest.received_at DESC) AS heard_at
    FROM (
        SELECT h.received_at
        FROM jobtrail.heartbeats h
        WHERE h.dataplane_id = d.dataplane_id AND h.received_at > now() - %(recent)s
        ORDER BY h.received_at DESC
        LIMIT %(most)s
    ) newest
) recent ON true
LEFT JOIN LATERAL (
    SELECT h.dataplane_version
    FROM jobtrail.heartbeats h
    WHERE h.dataplane_id = d.dataplane_id AND h.received_at > now() - %(recent)s AND h.dataplane_version IS NOT NULL
    ORDER BY h.received_at DESC
    LIMIT 1
) told ON true
ORDER BY d.dataplane_id COLLATE "C"
;
