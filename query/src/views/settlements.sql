-- One row for each attempt that was charged: its effective settlement. A duplicate is left out, and of several
-- endings of one attempt (the producer's own, late, and the one that a successor recovered) the producer's own
-- counts; an attempt whose effective ending is a void was not charged and has no row.
--   request: The request.
--   attempt: The attempt, from 1.
--   accounting_at: Accounting time: when the request was opened; months and windows follow it.
--   settled_at: When the attempt was settled.
--   organisation: The organisation.
--   team: The team, as of the request.
--   project: The project, as of the request.
--   key: The virtual key's id.
--   end_user: The end user's pseudonym.
--   cost_center: The cost centre that is charged.
--   tags: Tags, as of the request.
--   provider: The provider's id in policy.
--   model: The model that was priced.
--   reserved: What had been reserved.
--   amount: What it cost, in dollars.
--   overrun: What it cost above the reservation.
--   confidence: reported, estimated or reconciled.
--   basis: What the amount follows from: usage, reservation or unpriced.
--   lines: One priced line for each meter.
--   policy_version: The policy version in force.
--   price_version: The date of the price table in force.
--   recovered: True when a successor settled it for a dead producer.
--   generation: Life of the topic that holds the settlement.
--   partition: Partition that holds it.
--   offset: Offset that holds it.
SELECT
  request, attempt, accounting_at, "at" AS settled_at, organisation, team, project, "key", end_user, cost_center,
  tags, provider, model, reserved, amount, overrun, confidence, basis, lines, policy_version, price_version,
  reserved_by IS NOT NULL AS recovered, generation, "partition", "offset"
FROM (
  SELECT
    *,
    -- Organisation and accounting time are a request's own and never change; with them in the key, a filter on
    -- a month is applied before the rows are sorted.
    row_number() OVER (
      PARTITION BY organisation, accounting_at, request, attempt
      ORDER BY reserved_by IS NOT NULL, generation, "partition", "offset"
    ) AS place
  FROM spend
  WHERE kind IN ('Settled', 'Voided') AND NOT duplicate
) AS endings
WHERE place = 1 AND kind = 'Settled'
