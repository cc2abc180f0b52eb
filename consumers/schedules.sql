-- due: When the last run began that came to an end, and what time it is.
SELECT max(started_at) FILTER (WHERE outcome IS NOT NULL), clock_timestamp()
FROM jobtrail.schedule_runs
WHERE schedule = %(schedule)s
;
-- begin: A run begins.
INSERT INTO jobtrail.schedule_runs (schedule, started_at) VALUES (%(schedule)s, clock_timestamp()) RETURNING started_at
;
-- end: What came of it.
UPDATE jobtrail.schedule_runs SET finished_at = clock_timestamp(), outcome = %(outcome)s, detail = %(detail)s
WHERE schedule = %(schedule)s AND started_at = %(started_at)s
;
-- forget: Runs before the last so many.
DELETE FROM jobtrail.schedule_runs
WHERE schedule = %(schedule)s AND started_at < (
    SELECT min(started_at)
    FROM (
        SELECT started_at FROM jobtrail.schedule_runs WHERE schedule = %(schedule)s ORDER BY started_at DESC LIMIT %(keep)s
    ) kept
)
;
-- state: The last run of a schedule, whether somebody holds its lock, and what time it is.
SELECT
    r.started_at,
    r.finished_at,
    r.outcome,
    r.detail,
    EXISTS (
        SELECT FROM pg_locks l JOIN pg_database d ON d.oid = l.database
        WHERE d.datname = current_database() AND l.locktype = 'advisory' AND l.granted
            AND l.classid = %(lock_class)s::oid AND l.objid = %(lock)s::oid AND l.objsubid = 2
    ) AS held,
    clock_timestamp() AS now
FROM (VALUES (0)) AS always
LEFT JOIN LATERAL (
    SELECT * FROM jobtrail.schedule_runs WHERE schedule = %(schedule)s ORDER BY started_at DESC LIMIT 1
) r ON true
;
