-- folded: What the read models lack of a topic before the given ends of its partitions, in messages (offsets).
SELECT coalesce(sum(greatest(0, log.next_offset - coalesce(folded.next_offset, log.first_offset))), 0)::bigint
FROM unnest(%(partitions)s::int[], %(begins)s::bigint[], %(ends)s::bigint[])
    AS log (log_partition, first_offset, next_offset)
LEFT JOIN (
    SELECT c.log_partition, c.next_offset
    FROM jobtrail.checkpoints c
    JOIN jobtrail.current_generation g USING (generation)
    WHERE c.projection_set = %(set)s AND c.topic_id = %(topic_id)s
) folded USING (log_partition)
;
-- others: Whether an alerter judges by other rules than these.
SELECT EXISTS (
    SELECT FROM pg_locks
    WHERE locktype = 'advisory' AND classid = %(class)s AND objid <> %(rules)s AND objsubid = 2 AND granted
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
)
;
-- judge_by: From now on, until it disconnects, an alerter judges by these rules.
SELECT pg_advisory_lock_shared(%(class)s, %(rules)s)
;
-- checkpoint: How far alerters have judged; held until the transaction ends.
SELECT started_at, judged_to, lag_judged_to FROM jobtrail.alert_checkpoint FOR UPDATE
;
-- start: The first start of an alerter: nothing before it is judged.
INSERT INTO jobtrail.alert_checkpoint (started_at, judged_to, lag_judged_to)
VALUES (%(at)s, %(judged_to)s, %(judged_to)s)
ON CONFLICT DO NOTHING
;
-- move: Runs and dead letters are judged to one minute, the lag to another.
UPDATE jobtrail.alert_checkpoint SET judged_to = %(judged_to)s, lag_judged_to = %(lag_judged_to)s
;
-- rule: A rule is run by; gives since when there is one of that name.
INSERT INTO jobtrail.alert_rules AS r (name, version, first_seen_at) VALUES (%(name)s, %(version)s, %(at)s)
ON CONFLICT (name) DO UPDATE SET version = excluded.version
RETURNING r.first_seen_at
;
-- open: Alerts that have not resolved.
SELECT alert_id::text, rule, rule_version, kind, severity, subject, connection_id, workspace_id, window_began_at,
    window_ended_at, triggered_at, detail, sent, send_to
FROM jobtrail.alerts
WHERE resolved_at IS NULL
ORDER BY rule, subject
;
-- trigger: An alert triggers; one that was told of before is not told of again.
INSERT INTO jobtrail.alerts (alert_id, rule, rule_version, kind, severity, subject, connection_id, workspace_id,
    window_began_at, window_ended_at, triggered_at, detail, sent, send_to)
VALUES (%(alert_id)s, %(rule)s, %(rule_version)s, %(kind)s, %(severity)s, %(subject)s, %(connection_id)s,
    %(workspace_id)s, %(window_began_at)s, %(window_ended_at)s, %(triggered_at)s, %(detail)s, %(sent)s, %(send_to)s)
ON CONFLICT (alert_id) DO NOTHING
;
-- resolve: An alert resolves.
UPDATE jobtrail.alerts SET resolved_at = %(resolved_at)s, resolution = %(resolution)s WHERE alert_id = %(alert_id)s
;
-- send: Something is to be sent.
INSERT INTO jobtrail.alert_outbox (event_id, channel, alert_id, status, body)
VALUES (%(event_id)s, %(channel)s, %(alert_id)s, %(status)s, %(body)s)
ON CONFLICT DO NOTHING
;
-- lag: What was seen of the lag at a minute: at its first look, which is the one that it is judged by.
INSERT INTO jobtrail.alert_lags (at, behind, messages) VALUES (%(at)s, %(behind)s, %(messages)s)
ON CONFLICT (at) DO NOTHING
;
-- forget_lags: What was seen of the lag long ago.
DELETE FROM jobtrail.alert_lags WHERE at < %(before)s
;
-- forget_outbox: What was sent long ago.
DELETE FROM jobtrail.alert_outbox WHERE coalesce(delivered_at, given_up_at) < %(before)s
;
-- list: Open alerts, then the newest of the others.
SELECT a.alert_id::text, a.rule, a.rule_version, a.kind, a.severity, a.subject, a.connection_id, a.workspace_id,
    a.window_began_at, a.window_ended_at, a.triggered_at, a.detail, a.resolved_at, a.resolution, a.sent,
    coalesce((
        SELECT jsonb_agg(jsonb_build_object(
            'channel', o.channel, 'status', o.status, 'tries', o.tries, 'deliveredAt', o.delivered_at,
            'givenUpAt', o.given_up_at, 'problem', o.problem
        ) ORDER BY o.kept_at, o.status DESC, o.channel)
        FROM jobtrail.alert_outbox o WHERE o.alert_id = a.alert_id
    ), '[]') AS deliveries
FROM jobtrail.alerts a
WHERE a.resolved_at IS NULL OR NOT %(open)s
ORDER BY a.resolved_at IS NOT NULL, a.triggered_at DESC, a.alert_id
LIMIT %(limit)s
;
-- judged: To which minute alerters have judged, and what time it is.
SELECT judged_to, now() AS now FROM jobtrail.alert_checkpoint
;
-- count: How many alerts there are, open and in all.
SELECT count(*) FILTER (WHERE resolved_at IS NULL) AS open, count(*) AS alerts FROM jobtrail.alerts
;
