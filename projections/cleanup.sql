-- move_horizon: Heartbeats older than so many days are not kept any more; a horizon never moves back.
UPDATE horizons
SET kept_from = greatest(kept_from, now() - %(days)s * interval '1 day')
WHERE name = 'heartbeats'
RETURNING kept_from
;
-- horizon: Where it would be moved to.
SELECT greatest(kept_from, now() - %(days)s * interval '1 day') AS kept_from
FROM horizons
WHERE name = 'heartbeats'
;
-- dataplanes: Whose heartbeats there are.
SELECT dataplane_id FROM dataplanes ORDER BY dataplane_id
;
-- count: How many heartbeats of a dataplane are older than the horizon, but for its newest.
SELECT count(*)
FROM heartbeats h
WHERE h.dataplane_id = %(dataplane_id)s AND h.heard_at < %(kept_from)s
    AND EXISTS (
        SELECT FROM heartbeats n
        WHERE n.dataplane_id = h.dataplane_id AND (n.heard_at, n.event_id) > (h.heard_at, h.event_id)
    )
;
-- delete: So many of them, from an instant on; those that somebody holds are passed by. How many, and the last instant.
WITH deleted AS (
    DELETE FROM heartbeats
    WHERE ctid = ANY (ARRAY(
        SELECT h.ctid
        FROM heartbeats h
        WHERE h.dataplane_id = %(dataplane_id)s AND h.heard_at >= %(since)s AND h.heard_at < %(kept_from)s
            AND (h.heard_at, h.event_id) < (
                SELECT n.heard_at, n.event_id
                FROM heartbeats n
                WHERE n.dataplane_id = %(dataplane_id)s
                ORDER BY n.heard_at DESC, n.event_id DESC
                LIMIT 1
            )
        ORDER BY h.heard_at
        LIMIT %(batch)s
        FOR UPDATE SKIP LOCKED
    ))
    RETURNING heard_at
)
SELECT count(*) AS deleted, max(heard_at) AS last FROM deleted
;
