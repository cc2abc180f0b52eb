-- Alerts: what triggered and resolved, and what is to be sent of it. None of it is a projection; it survives every
-- rebuild. State, outbox and checkpoint are written in one transaction.

CREATE TABLE alert_checkpoint (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    started_at timestamptz NOT NULL,
    judged_to timestamptz NOT NULL,
    lag_judged_to timestamptz NOT NULL
);
COMMENT ON TABLE alert_checkpoint IS 'How far the alerter has judged.';
COMMENT ON COLUMN alert_checkpoint.started_at IS 'When an alerter ran for the first time.';
COMMENT ON COLUMN alert_checkpoint.judged_to IS 'The minute to which runs and dead letters were judged.';
COMMENT ON COLUMN alert_checkpoint.lag_judged_to IS 'The minute to which the lag of the read models was judged.';

CREATE TABLE alert_rules (
    name text COLLATE "C" PRIMARY KEY,
    version text COLLATE "C" NOT NULL,
    first_seen_at timestamptz NOT NULL
);
COMMENT ON TABLE alert_rules IS 'The rules that alerters have run by.';
COMMENT ON COLUMN alert_rules.version IS 'A hash of what decides when it triggers.';
COMMENT ON COLUMN alert_rules.first_seen_at IS 'Windows that ended before are not told of.';

CREATE TABLE alerts (
    alert_id uuid PRIMARY KEY,
    rule text COLLATE "C" NOT NULL,
    rule_version text COLLATE "C" NOT NULL,
    kind text COLLATE "C" NOT NULL,
    severity text COLLATE "C" NOT NULL,
    subject text COLLATE "C" NOT NULL,
    connection_id text COLLATE "C",
    workspace_id text COLLATE "C",
    window_began_at timestamptz NOT NULL,
    window_ended_at timestamptz NOT NULL,
    triggered_at timestamptz NOT NULL,
    detail text COLLATE "C" NOT NULL,
    resolved_at timestamptz,
    resolution text COLLATE "C",
    sent boolean NOT NULL,
    send_to text[] COLLATE "C" NOT NULL DEFAULT '{}',
    CHECK (num_nulls(resolved_at, resolution) IN (0, 2))
);
COMMENT ON TABLE alerts IS 'Alerts that triggered, open or resolved.';
COMMENT ON COLUMN alerts.alert_id IS 'A hash of rule, version, subject and window.';
COMMENT ON COLUMN alerts.subject IS 'The connection, or all: the installation.';
COMMENT ON COLUMN alerts.triggered_at IS 'The minute at which the rule held.';
COMMENT ON COLUMN alerts.detail IS 'Why, for a person.';
COMMENT ON COLUMN alerts.resolved_at IS 'The minute at which it no longer did; null: it is open.';
COMMENT ON COLUMN alerts.resolution IS 'Why it resolved, for a person.';
COMMENT ON COLUMN alerts.sent IS 'Whether it is told of: not where its window ended before the rule was first run.';
COMMENT ON COLUMN alerts.send_to IS 'Channels that were told when it triggered, besides the topic.';
CREATE UNIQUE INDEX alerts_open ON alerts (rule, subject) WHERE resolved_at IS NULL;
CREATE INDEX alerts_by_time ON alerts (triggered_at);

CREATE TABLE alert_outbox (
    event_id uuid NOT NULL,
    channel text COLLATE "C" NOT NULL,
    alert_id uuid NOT NULL,
    status text COLLATE "C" NOT NULL,
    body jsonb NOT NULL,
    kept_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    tries integer NOT NULL DEFAULT 0,
    next_try_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    delivered_at timestamptz,
    given_up_at timestamptz,
    problem text COLLATE "C",
    PRIMARY KEY (event_id, channel)
);
COMMENT ON TABLE alert_outbox IS 'What is to be sent: once for each event and channel.';
COMMENT ON COLUMN alert_outbox.event_id IS 'Of the event on the topic.';
COMMENT ON COLUMN alert_outbox.status IS 'What is told of the alert: triggered or resolved.';
COMMENT ON COLUMN alert_outbox.channel IS 'topic, log, or webhook:NAME.';
COMMENT ON COLUMN alert_outbox.given_up_at IS 'When the last try was made in vain.';
COMMENT ON COLUMN alert_outbox.problem IS 'What the last try met.';
CREATE INDEX alert_outbox_open ON alert_outbox (next_try_at) WHERE delivered_at IS NULL AND given_up_at IS NULL;
CREATE INDEX alert_outbox_by_alert ON alert_outbox (alert_id);

CREATE TABLE alert_lags (
    at timestamptz PRIMARY KEY,
    behind interval NOT NULL,
    messages bigint NOT NULL CHECK (messages >= 0)
);
COMMENT ON TABLE alert_lags IS 'How far the read models were behind the log, as alerters saw it: each minute, for 100 days.';
