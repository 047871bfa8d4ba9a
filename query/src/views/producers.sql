-- Each producer (one run of one role) on each partition that it wrote to: how much came, what did not come as it
-- should, and how far it has signed for what came. Records that cannot be read have no producer and share a row.
--   topic: The topic.
--   generation: Life of the topic.
--   partition: The partition.
--   producer: The producer; null for records that cannot be read.
--   role: Its role.
--   facts: Facts of it that count.
--   first_at: Event time of the earliest.
--   last_at: Event time of the latest.
--   missing: Numbers of it that never came.
--   missing_since: Event time of the first fact after such a hole.
--   duplicates: Facts whose number had come before; they do not count.
--   duplicates_since: Event time of the first of them.
--   late: Facts that stand after one whose event time is more than a minute later.
--   late_since: Event time of the first of them.
--   unreadable: Records that are no facts of the contract.
--   unreadable_since: When the first of them was taken in.
--   state: ended (it signed its last word), replaced (a successor took over from it without one), or open.
--   unproven: Its numbers after its last signed head: nobody signed that there are no more.
--   unproven_since: Event time of that head; of its first fact where it signed none.
WITH records AS (
  SELECT 'requests' AS topic, generation, "partition", "offset", recorded_at, kind, unreadable, duplicate, missing_before, producer, role, number, "at", head_ended, predecessor FROM requests
  UNION ALL SELECT 'routes' AS topic, generation, "partition", "offset", recorded_at, kind, unreadable, duplicate, missing_before, producer, role, number, "at", head_ended, predecessor FROM routes
  UNION ALL SELECT 'spend' AS topic, generation, "partition", "offset", recorded_at, kind, unreadable, duplicate, missing_before, producer, role, number, "at", head_ended, predecessor FROM spend
  UNION ALL SELECT 'limits' AS topic, generation, "partition", "offset", recorded_at, kind, unreadable, duplicate, missing_before, producer, role, number, "at", head_ended, predecessor FROM limits
  UNION ALL SELECT 'policy' AS topic, generation, "partition", "offset", recorded_at, kind, unreadable, duplicate, missing_before, producer, role, number, "at", head_ended, predecessor FROM policy
),
placed AS (
  SELECT *, max("at") OVER (
    PARTITION BY topic, generation, "partition" ORDER BY "offset" ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
  ) AS newest
  FROM records
  WHERE /* since */ true
),
summed AS (
  SELECT
    topic, generation, "partition", producer, min(role) AS role,
    count(CASE WHEN kind IS NOT NULL AND NOT duplicate THEN 1 END) AS facts,
    min("at") AS first_at, max("at") AS last_at,
    -- A forged number can claim any hole: no single one counts for more than a million million.
    sum(least(missing_before, 1000000000000)) AS missing,
    min(CASE WHEN missing_before > 0 THEN "at" END) AS missing_since,
    count(CASE WHEN duplicate THEN 1 END) AS duplicates,
    min(CASE WHEN duplicate THEN "at" END) AS duplicates_since,
    count(CASE WHEN NOT duplicate AND "at" < newest - INTERVAL '60 seconds' THEN 1 END) AS late,
    min(CASE WHEN NOT duplicate AND "at" < newest - INTERVAL '60 seconds' THEN "at" END) AS late_since,
    count(CASE WHEN unreadable IS NOT NULL THEN 1 END) AS unreadable,
    min(CASE WHEN unreadable IS NOT NULL THEN recorded_at END) AS unreadable_since,
    max(CASE WHEN head_ended AND NOT duplicate THEN 1 ELSE 0 END) AS ended,
    min(CASE WHEN NOT duplicate THEN number END) AS first_number,
    max(CASE WHEN NOT duplicate THEN number END) AS last_number,
    max(CASE WHEN kind = 'ProducerHead' AND NOT duplicate THEN number END) AS head_number,
    max(CASE WHEN kind = 'ProducerHead' AND NOT duplicate THEN "at" END) AS head_at
  FROM placed
  GROUP BY topic, generation, "partition", producer
)
SELECT
  topic, generation, "partition", summed.producer AS producer, role, facts, first_at, last_at, missing, missing_since,
  duplicates, duplicates_since, late, late_since, unreadable, unreadable_since,
  CASE WHEN ended = 1 THEN 'ended' WHEN replaced.producer IS NOT NULL THEN 'replaced' ELSE 'open' END AS state,
  CASE WHEN ended = 1 OR facts = 0 THEN 0 ELSE last_number - coalesce(head_number, first_number - 1) END AS unproven,
  coalesce(head_at, first_at) AS unproven_since
FROM summed
LEFT JOIN (SELECT DISTINCT predecessor AS producer FROM records WHERE kind = 'ProducerOpened' AND predecessor IS NOT NULL) AS replaced
  ON summed.producer = replaced.producer
