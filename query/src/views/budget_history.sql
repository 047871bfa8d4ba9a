-- What happened to each budget, in time: limits as the ledger set them, raises as operators made them, and requests
-- that the budget refused. Whether a record of the ledger counts is for the fold to say, not for this view.
--   at: When.
--   budget: The budget.
--   event: limit_set, raised or refused.
--   amount: The limit set, the change of a raise, or what the refused request needed.
--   mode: What the budget promises, for limit_set.
--   version: Policy version of the limit or of the refusal.
--   step: Step within that version, for limit_set.
--   by: Who raised it.
--   reason: Why it was raised, or the refusal's code.
--   expires_at: When the raise ends.
--   settled: What was settled in the window, for refused.
--   request: The request that was refused.
--   epoch: Epoch of the ledger instance, for limit_set.
SELECT
  "at", budget, 'limit_set' AS event, amount, "mode", limit_policy_version AS version, step,
  arrow_cast(NULL, 'Utf8') AS "by", arrow_cast(NULL, 'Utf8') AS reason,
  arrow_cast(NULL, 'Timestamp(Microsecond, Some("UTC"))') AS expires_at,
  arrow_cast(NULL, 'Decimal128(38, 12)') AS settled, arrow_cast(NULL, 'Utf8') AS request, epoch
FROM limits WHERE kind = 'LimitSet' AND NOT duplicate
UNION ALL
SELECT "at", budget, 'raised', change, NULL, policy_version, NULL, author, reason, expires_at, NULL, NULL, NULL
FROM policy WHERE kind = 'BudgetRaised' AND NOT duplicate
UNION ALL
SELECT "at", budget, 'refused', needed, NULL, policy_version, NULL, NULL, code, NULL, settled, request, NULL
FROM requests WHERE kind = 'RequestRefused' AND NOT duplicate AND budget IS NOT NULL
