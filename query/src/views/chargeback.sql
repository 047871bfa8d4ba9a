-- What each team, project and cost centre is charged, by calendar month in the organisation's own time zone and by
-- model. The statement of account (`bursar chargeback`) adds what the total does not hold.
--   organisation: The organisation.
--   month: Calendar month of the accounting time in the organisation's time zone, such as 2026-11.
--   team: The team, as of the request.
--   project: The project, as of the request.
--   cost_center: The cost centre that is charged.
--   provider: The provider's id in policy.
--   model: The model that was priced.
--   amount: The sum, in dollars.
--   requests: Requests with a charged attempt.
--   attempts: Charged attempts.
--   input_tokens: Input tokens of all kinds.
--   output_tokens: Output tokens of all kinds.
--   unpriced_attempts: Attempts whose price was unknown; the amount does not hold them.
--   estimated_amount: What of the amount is estimated rather than reported.
SELECT
  organisation,
  month_of(organisation, accounting_at) AS "month",
  team, project, cost_center, provider, model,
  sum(amount) AS amount,
  count(DISTINCT request) AS requests,
  count(DISTINCT request || '/' || attempt) AS attempts,
  coalesce(sum(quantity) FILTER (
    WHERE meter IN ('input', 'cache_read', 'cache_write_5m', 'cache_write_1h', 'input_audio')), 0) AS input_tokens,
  coalesce(sum(quantity) FILTER (WHERE meter IN ('output', 'reasoning', 'output_audio')), 0) AS output_tokens,
  count(DISTINCT request || '/' || attempt) FILTER (WHERE basis = 'unpriced') AS unpriced_attempts,
  coalesce(sum(amount) FILTER (WHERE confidence = 'estimated'), 0) AS estimated_amount
FROM costs
GROUP BY organisation, month_of(organisation, accounting_at), team, project, cost_center, provider, model
