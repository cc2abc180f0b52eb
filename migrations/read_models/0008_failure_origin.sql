-- Jobs by whose fault it is, newest first: among a million jobs those of a rare origin, and their number, at once.
CREATE INDEX jobs_by_origin ON jobs ((failure_reason ->> 'failureOrigin'), coalesce(created_at, first_seen_at), job_id)
WHERE (failure_reason ->> 'failureOrigin') IS NOT NULL;
