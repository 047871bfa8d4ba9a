-- Everything in the five topics that is not as it should be: records that cannot be read, numbers of a producer that
-- never came, facts that came twice, and what other readers found and recorded.
--   topic: The topic concerned.
--   generation: Life of the topic; null for a recorded finding.
--   partition: The partition concerned.
--   offset: The record that showed it.
--   recorded_at: When that record was taken in.
--   finding: unreadable, gap, duplicate, or the kind of a recorded finding.
--   producer: The producer concerned.
--   count: How many facts are concerned.
--   detail: What was wrong, without any content.
WITH records AS (
  SELECT 'requests' AS topic, generation, "partition", "offset", recorded_at, producer, unreadable, missing_before, duplicate FROM requests
  UNION ALL SELECT 'routes' AS topic, generation, "partition", "offset", recorded_at, producer, unreadable, missing_before, duplicate FROM routes
  UNION ALL SELECT 'spend' AS topic, generation, "partition", "offset", recorded_at, producer, unreadable, missing_before, duplicate FROM spend
  UNION ALL SELECT 'limits' AS topic, generation, "partition", "offset", recorded_at, producer, unreadable, missing_before, duplicate FROM limits
  UNION ALL SELECT 'policy' AS topic, generation, "partition", "offset", recorded_at, producer, unreadable, missing_before, duplicate FROM policy
)
SELECT topic, generation, "partition", "offset", recorded_at, 'unreadable' AS finding, producer, CAST(1 AS BIGINT) AS "count", unreadable AS detail
FROM records WHERE unreadable IS NOT NULL
UNION ALL
SELECT topic, generation, "partition", "offset", recorded_at, 'gap', producer, CAST(missing_before AS BIGINT), 'numbers that never came'
FROM records WHERE missing_before > 0
UNION ALL
SELECT topic, generation, "partition", "offset", recorded_at, 'duplicate', producer, CAST(1 AS BIGINT), 'the number came before'
FROM records WHERE duplicate
UNION ALL
SELECT finding_topic, NULL, CAST(finding_partition AS INT), finding_offset, recorded_at, finding_kind, finding_subject,
  finding_last - finding_first + 1, detail
FROM requests WHERE kind = 'Finding' AND NOT duplicate
