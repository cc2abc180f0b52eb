-- Why an attempt failed, in one document: {"failures": [reason, …], "partialSuccess": true | false | absent}.
ALTER TABLE attempts ADD COLUMN IF NOT EXISTS failure_summary jsonb;
CREATE INDEX IF NOT EXISTS attempts_by_failure ON attempts USING gin (failure_summary jsonb_path_ops);
