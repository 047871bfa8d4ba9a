-- Alerts that budgets raised: the first record of each account, kind and percentage counts, whichever ledger wrote it.
-- A change of the limit afterwards raises none of them again.
--   at: When it was raised.
--   budget: The budget, or a member's account of it.
--   window_starts_at: First instant of the window.
--   window_ends_at: First instant after it; null for `total`.
--   alert: threshold, forecast, or overrun (a provider charged more than was reserved under a hard budget).
--   percent: The percentage of the limit.
--   limit: The limit in force when it was raised, in dollars.
--   settled: What was settled in the window by then.
--   reserved: What attempts in flight had reserved.
--   overrun: Of the settled, what exceeded reservations.
--   forecast: What the window comes to at its pace so far, for a forecast.
--   policy_version: The policy version in force.
--   webhooks: Ids of the webhooks that were to be told.
--   delivered: How many of them took it.
--   given_up: How many of them were given up.
--   told_at: When the last of these ended.
--   producer: Who raised it.
--   number: Its number; with producer and partition the id that receivers know it by.
--   partition: The partition of limits.
WITH raised AS (
  SELECT
    generation, "partition", producer, "number", "at", account_budget, starts_at, ends_at, alert, percent, limit_amount,
    settled, reserved, overrun, forecast, policy_version, webhooks,
    row_number() OVER (
      PARTITION BY generation, "partition", account_budget, account_window, alert, percent ORDER BY "offset") AS nth
  FROM limits WHERE kind = 'AlertRaised' AND NOT duplicate AND role = 'ledger'
),
ended AS (
  SELECT
    generation, "partition", alert_producer, alert_number, "at", delivered,
    row_number() OVER (
      PARTITION BY generation, "partition", alert_producer, alert_number, webhook ORDER BY "offset") AS nth
  FROM limits WHERE kind = 'AlertDelivered' AND NOT duplicate AND role = 'ledger'
),
told AS (
  SELECT
    generation, "partition", alert_producer, alert_number, max("at") AS told_at,
    count(*) FILTER (WHERE delivered) AS delivered, count(*) FILTER (WHERE NOT delivered) AS given_up
  FROM ended WHERE nth = 1
  GROUP BY generation, "partition", alert_producer, alert_number
)
SELECT
  raised."at", account_budget AS budget, starts_at AS window_starts_at, ends_at AS window_ends_at, alert, percent,
  limit_amount AS "limit", settled, reserved, overrun, forecast, policy_version, webhooks,
  coalesce(told.delivered, 0) AS delivered, coalesce(told.given_up, 0) AS given_up, told_at,
  producer, "number", raised."partition"
FROM raised LEFT JOIN told
  ON told.generation = raised.generation AND told."partition" = raised."partition"
  AND alert_producer = producer AND alert_number = "number"
WHERE nth = 1
