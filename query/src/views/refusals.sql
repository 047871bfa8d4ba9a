-- Requests that were refused before any provider was called, with the figures that refused them.
--   at: When.
--   request: The request.
--   organisation: The organisation; null, like all attributes, when the key was unknown.
--   team: The team.
--   project: The project.
--   key: The virtual key's id.
--   end_user: The end user's pseudonym.
--   cost_center: The cost centre.
--   model: The model asked for.
--   status: HTTP status of the refusal.
--   code: Why.
--   budget: The budget that refused.
--   limit: That budget's limit in force.
--   settled: What was settled in its window.
--   reserved: What was reserved or leased in its window.
--   needed: What the request would have reserved.
--   resets_at: When the window resets.
--   retryable: Whether trying again soon could help.
--   detail: What was wrong with the request, without its content.
--   policy_version: The policy version in force.
SELECT
  "at", request, organisation, team, project, "key", end_user, cost_center, model, status, code, budget, "limit",
  settled, reserved, needed, resets_at, retryable, detail, policy_version
FROM requests
WHERE kind = 'RequestRefused' AND NOT duplicate
