-- running_job: The newest job of a connection that is not decided.
SELECT job_id
FROM jobtrail.jobs
WHERE connection_id = %(connection_id)s AND status IN ('pending', 'running', 'incomplete')
ORDER BY created_at DESC, job_id DESC
LIMIT 1
