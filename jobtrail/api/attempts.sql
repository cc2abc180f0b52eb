-- first_said: Since when something is decided: now, unless it was before.
INSERT INTO jobtrail.http_decisions AS d (decision_id, decided_at, request_digest)
VALUES (%(decision_id)s, %(now)s, %(digest)s)
ON CONFLICT (decision_id) DO UPDATE SET decided_at = d.decided_at
RETURNING decided_at, request_digest IS NOT DISTINCT FROM %(digest)s AS same_request
;
-- unsay: Forgets what was decided at an instant, of which nothing was published.
DELETE FROM jobtrail.http_decisions
WHERE decision_id = %(decision_id)s AND decided_at = %(at)s
;
-- attempt_standing: How an attempt stands; no row where the job is unknown, no status where the attempt is not to be
-- read yet. `said` names the ends that were heard of, whoever said them.
SELECT
    j.workspace_id,
    j.connection_id,
    j.config_type,
    j.cancel_requested_by,
    j.status AS job_status,
    j.ended_at AS job_ended_at,
    a.status,
    a.ended_at,
    EXISTS (
        SELECT FROM jobtrail.attempt_reservations r
        WHERE r.job_id = j.job_id AND r.attempt_number = %(attempt_number)s
    ) AS reserved,
    ARRAY(
        SELECT e.event_type
        FROM jobtrail.job_events e
        WHERE e.job_id = j.job_id
            AND (
                e.event_type IN ('AttemptSucceeded', 'AttemptFailed') AND e.attempt_number = %(attempt_number)s
                OR e.event_type IN ('JobFailed', 'Cancelled') AND e.attempt_number IS NULL
            )
    ) AS said
FROM jobtrail.jobs j
LEFT JOIN jobtrail.attempts a ON a.job_id = j.job_id AND a.attempt_number = %(attempt_number)s
WHERE j.job_id = %(job_id)s
;
-- number_standing: What decides which number the next attempt of a job gets; no row where the job is unknown.
SELECT
    j.status,
    j.cancel_requested_at IS NOT NULL AS cancel_requested,
    (SELECT max(a.attempt_number) FROM jobtrail.attempts a WHERE a.job_id = j.job_id) AS last,
    ARRAY(
        SELECT a.attempt_number FROM jobtrail.attempts a WHERE a.job_id = j.job_id AND a.status = 'running'
    ) AS running,
    r.attempt_number AS reserved,
    coalesce(r.held_until < %(now)s, false) AS lapsed
FROM jobtrail.jobs j
LEFT JOIN LATERAL (
    SELECT attempt_number, held_until
    FROM jobtrail.attempt_reservations
    WHERE job_id = j.job_id
    ORDER BY attempt_number DESC
    LIMIT 1
) r ON true
WHERE j.job_id = %(job_id)s
;
-- reservation_of_key: The number that an earlier request with this key got.
SELECT attempt_number, reserved_at, held_until = 'infinity' AS settled
FROM jobtrail.attempt_reservations
WHERE job_id = %(job_id)s AND idempotency_key = %(key)s
;
-- reserve: Gives a number to one caller; no row where another one has it. Waits for whoever takes it at this moment.
INSERT INTO jobtrail.attempt_reservations AS r (job_id, attempt_number, reserved_at, held_until, idempotency_key)
VALUES (%(job_id)s, %(attempt_number)s, %(now)s, %(until)s, %(key)s)
ON CONFLICT (job_id, attempt_number) DO UPDATE
SET held_until = excluded.held_until, idempotency_key = excluded.idempotency_key
WHERE r.held_until < excluded.reserved_at
RETURNING attempt_number, reserved_at
;
-- hold: Keeps a number from others until an instant.
UPDATE jobtrail.attempt_reservations
SET held_until = %(until)s::timestamptz
WHERE job_id = %(job_id)s AND attempt_number = %(attempt_number)s
;
-- free: Gives a number back of which nothing was published.
DELETE FROM jobtrail.attempt_reservations
WHERE job_id = %(job_id)s AND attempt_number = %(attempt_number)s
