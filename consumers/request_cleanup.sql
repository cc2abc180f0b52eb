-- http_decisions: Since when something is said that was said over HTTP so many days ago.
WITH old AS (
    SELECT ctid
    FROM jobtrail.http_decisions
    WHERE decided_at < now() - make_interval(days => %(days)s)
    LIMIT %(batch)s
), gone AS (
    DELETE FROM jobtrail.http_decisions WHERE ctid = ANY (ARRAY(SELECT ctid FROM old)) AND NOT %(dry_run)s
    RETURNING 1
)
SELECT CASE WHEN %(dry_run)s THEN (SELECT count(*) FROM old) ELSE (SELECT count(*) FROM gone) END
;
-- idempotency_keys: Keys of jobs that were made so many days ago.
WITH old AS (
    SELECT ctid
    FROM jobtrail.idempotency_keys
    WHERE used_at < now() - make_interval(days => %(days)s)
    LIMIT %(batch)s
), gone AS (
    DELETE FROM jobtrail.idempotency_keys WHERE ctid = ANY (ARRAY(SELECT ctid FROM old)) AND NOT %(dry_run)s
    RETURNING 1
)
SELECT CASE WHEN %(dry_run)s THEN (SELECT count(*) FROM old) ELSE (SELECT count(*) FROM gone) END
;
-- connection_reservations: Of jobs that are decided, or that nobody has heard of in so many days.
WITH old AS (
    SELECT r.ctid
    FROM jobtrail.connection_reservations r
    WHERE r.reserved_at < now() - make_interval(days => %(days)s)
        AND NOT EXISTS (SELECT FROM jobtrail.jobs j WHERE j.job_id = r.job_id AND j.ended_at IS NULL)
    LIMIT %(batch)s
), gone AS (
    DELETE FROM jobtrail.connection_reservations WHERE ctid = ANY (ARRAY(SELECT ctid FROM old)) AND NOT %(dry_run)s
    RETURNING 1
)
SELECT CASE WHEN %(dry_run)s THEN (SELECT count(*) FROM old) ELSE (SELECT count(*) FROM gone) END
;
-- attempt_reservations: Numbers of jobs that are decided; no other number is ever given out for them.
WITH old AS (
    SELECT r.ctid
    FROM jobtrail.attempt_reservations r
    WHERE r.reserved_at < now() - make_interval(days => %(days)s)
        AND EXISTS (SELECT FROM jobtrail.jobs j WHERE j.job_id = r.job_id AND j.ended_at IS NOT NULL)
    LIMIT %(batch)s
), gone AS (
    DELETE FROM jobtrail.attempt_reservations WHERE ctid = ANY (ARRAY(SELECT ctid FROM old)) AND NOT %(dry_run)s
    RETURNING 1
)
SELECT CASE WHEN %(dry_run)s THEN (SELECT count(*) FROM old) ELSE (SELECT count(*) FROM gone) END
;
-- schedule_runs: Runs before the last one of their schedule that came to an end: that one says when it is due.
WITH old AS (
    SELECT r.ctid
    FROM jobtrail.schedule_runs r
    WHERE r.started_at < now() - make_interval(days => %(days)s)
        AND EXISTS (
            SELECT FROM jobtrail.schedule_runs n
            WHERE n.schedule = r.schedule AND n.started_at > r.started_at AND n.outcome IS NOT NULL
        )
    LIMIT %(batch)s
), gone AS (
    DELETE FROM jobtrail.schedule_runs WHERE ctid = ANY (ARRAY(SELECT ctid FROM old)) AND NOT %(dry_run)s
    RETURNING 1
)
SELECT CASE WHEN %(dry_run)s THEN (SELECT count(*) FROM old) ELSE (SELECT count(*) FROM gone) END
;
