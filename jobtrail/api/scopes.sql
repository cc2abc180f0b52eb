-- workspace: What is known of one workspace.
SELECT workspace_id, organization_id, is_default, name FROM jobtrail.workspaces WHERE workspace_id = %(workspace_id)s
;
-- workspaces_of: The workspaces of an organization.
SELECT workspace_id, is_default
FROM jobtrail.workspaces
WHERE organization_id = %(organization_id)s
ORDER BY workspace_id
;
