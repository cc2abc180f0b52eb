-- take_topic: What is to be published, in the order in which it came about, and whose alert has nothing older to be
-- published; passed by where somebody else has it.
SELECT event_id::text, channel, alert_id::text, status, body, kept_at, tries
FROM jobtrail.alert_outbox o
WHERE channel IN ('topic', 'log') AND delivered_at IS NULL AND given_up_at IS NULL
    AND NOT EXISTS (
        SELECT FROM jobtrail.alert_outbox older
        WHERE older.alert_id = o.alert_id AND older.channel = o.channel AND older.kept_at < o.kept_at
            AND older.delivered_at IS NULL AND older.given_up_at IS NULL
    )
ORDER BY kept_at, event_id, channel
LIMIT %(limit)s
FOR UPDATE OF o SKIP LOCKED
;
-- take_webhook: One that is due at a webhook, and whose alert has nothing older to be posted there.
SELECT event_id::text, channel, alert_id::text, status, body, kept_at, tries
FROM jobtrail.alert_outbox o
WHERE channel = %(channel)s
    AND delivered_at IS NULL AND given_up_at IS NULL AND next_try_at <= clock_timestamp()
    AND NOT EXISTS (
        SELECT FROM jobtrail.alert_outbox older
        WHERE older.alert_id = o.alert_id AND older.channel = o.channel AND older.kept_at < o.kept_at
            AND older.delivered_at IS NULL AND older.given_up_at IS NULL
    )
ORDER BY next_try_at, event_id
LIMIT 1
FOR UPDATE OF o SKIP LOCKED
;
-- delivered: It was.
UPDATE jobtrail.alert_outbox SET delivered_at = clock_timestamp(), tries = tries + 1, problem = NULL
WHERE event_id = %(event_id)s AND channel = %(channel)s
;
-- failed: It was not; it is tried again after a while, or never.
UPDATE jobtrail.alert_outbox
SET tries = tries + 1, problem = %(problem)s,
    next_try_at = clock_timestamp() + make_interval(secs => %(pause)s),
    given_up_at = CASE WHEN kept_at + make_interval(secs => %(patience)s) <= clock_timestamp() THEN clock_timestamp() END
WHERE event_id = %(event_id)s AND channel = %(channel)s
RETURNING given_up_at IS NOT NULL
;
-- orphans: What is for webhooks that the rules no longer have.
UPDATE jobtrail.alert_outbox SET given_up_at = clock_timestamp(), problem = 'the rules have no such webhook any more'
WHERE channel LIKE 'webhook:%%' AND NOT channel = ANY(%(channels)s::text[])
    AND delivered_at IS NULL AND given_up_at IS NULL
RETURNING channel
;
