-- hold: Holds the horizon to the end of the transaction: cleanup moves it between two merges, never beside one.
SELECT FROM horizons WHERE name = 'heartbeats' FOR UPDATE
;
-- ignore: Of the heartbeats about to be merged, those older than the horizon, but for the newest of a dataplane.
WITH arriving AS (
    SELECT DISTINCT ON (dataplane_id) dataplane_id, heard_at, event_id
    FROM stage_heartbeats
    ORDER BY dataplane_id, heard_at DESC, event_id DESC
), newest AS (
    SELECT dataplane_id, heard_at, event_id
    FROM arriving
    UNION ALL
    SELECT a.dataplane_id, kept.heard_at, kept.event_id
    FROM arriving a
    CROSS JOIN LATERAL (
        SELECT h.heard_at, h.event_id
        FROM heartbeats h
        WHERE h.dataplane_id = a.dataplane_id
        ORDER BY h.heard_at DESC, h.event_id DESC
        LIMIT 1
    ) kept
)
DELETE FROM stage_heartbeats s
USING newest n, horizons z
WHERE z.name = 'heartbeats' AND n.dataplane_id = s.dataplane_id
    AND s.heard_at < z.kept_from
    AND (s.heard_at, s.event_id) < (n.heard_at, n.event_id)
;
-- forget: The newest so far of a dataplane, where it is older than the horizon and a newer one arrives. What else is
-- older is left to the cleanup that moved the horizon: it may be a million rows.
DELETE FROM heartbeats h
USING (
    SELECT DISTINCT ON (dataplane_id) dataplane_id, heard_at, event_id
    FROM stage_heartbeats
    ORDER BY dataplane_id, heard_at DESC, event_id DESC
) arriving
CROSS JOIN LATERAL (
    SELECT k.event_id
    FROM heartbeats k
    WHERE k.dataplane_id = arriving.dataplane_id
    ORDER BY k.heard_at DESC, k.event_id DESC
    LIMIT 1
) kept
CROSS JOIN horizons z
WHERE z.name = 'heartbeats' AND h.dataplane_id = arriving.dataplane_id AND h.event_id = kept.event_id
    AND h.heard_at < z.kept_from AND (h.heard_at, h.event_id) < (arriving.heard_at, arriving.event_id)
;
