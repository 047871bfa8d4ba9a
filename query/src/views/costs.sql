-- One row for each priced line of each charged attempt. An attempt without lines (settled at its reservation, or
-- unpriced) has one row without a meter, so the sum over all rows is the sum of all settlements.
--   request: The request.
--   attempt: The attempt, from 1.
--   accounting_at: Accounting time: when the request was opened; months and windows follow it.
--   organisation: The organisation.
--   team: The team, as of the request.
--   project: The project, as of the request.
--   key: The virtual key's id.
--   end_user: The end user's pseudonym.
--   cost_center: The cost centre that is charged.
--   tags: Tags, as of the request.
--   provider: The provider's id in policy.
--   model: The model that was priced.
--   meter: What was counted; null for an attempt without lines.
--   quantity: How many units of it.
--   price_per_million: Dollars per million units.
--   amount: What the line cost, in dollars.
--   confidence: reported, estimated or reconciled.
--   basis: What the amount follows from: usage, reservation or unpriced.
SELECT
  request, attempt, accounting_at, organisation, team, project, "key", end_user, cost_center, tags, provider, model,
  line['meter'] AS meter,
  line['quantity'] AS quantity,
  line['price_per_million'] AS price_per_million,
  CASE WHEN line IS NULL THEN amount ELSE line['amount'] END AS amount,
  confidence, basis
FROM (
  SELECT
    request, attempt, accounting_at, organisation, team, project, "key", end_user, cost_center, tags, provider,
    model, amount, confidence, basis,
    -- The second list keeps a settlement without lines: the shorter of the two is filled up with nulls.
    unnest(lines) AS line, unnest([1]) AS at_least_one
  FROM settlements
) AS spread
