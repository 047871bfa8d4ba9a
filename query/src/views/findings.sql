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
SELECT 'requests' AS topic, generation, "partition", "offset", recorded_at, 'unreadable' AS finding, producer, CAST(1 AS BIGINT) AS "count", unreadable AS detail
FROM requests WHERE unreadable IS NOT NULL
UNION ALL
SELECT 'requests' AS topic, generation, "partition", "offset", recorded_at, 'gap' AS finding, producer, CAST(missing_before AS BIGINT) AS "count", 'numbers that never came' AS detail
FROM requests WHERE missing_before > 0
UNION ALL
SELECT 'requests' AS topic, generation, "partition", "offset", recorded_at, 'duplicate' AS finding, producer, CAST(1 AS BIGINT) AS "count", 'the number came before' AS detail
FROM requests WHERE duplicate
UNION ALL
SELECT 'routes' AS topic, generation, "partition", "offset", recorded_at, 'unreadable' AS finding, producer, CAST(1 AS BIGINT) AS "count", unreadable AS detail
FROM routes WHERE unreadable IS NOT NULL
UNION ALL
SELECT 'routes' AS topic, generation, "partition", "offset", recorded_at, 'gap' AS finding, producer, CAST(missing_before AS BIGINT) AS "count", 'numbers that never came' AS detail
FROM routes WHERE missing_before > 0
UNION ALL
SELECT 'routes' AS topic, generation, "partition", "offset", recorded_at, 'duplicate' AS finding, producer, CAST(1 AS BIGINT) AS "count", 'the number came before' AS detail
FROM routes WHERE duplicate
UNION ALL
SELECT 'spend' AS topic, generation, "partition", "offset", recorded_at, 'unreadable' AS finding, producer, CAST(1 AS BIGINT) AS "count", unreadable AS detail
FROM spend WHERE unreadable IS NOT NULL
UNION ALL
SELECT 'spend' AS topic, generation, "partition", "offset", recorded_at, 'gap' AS finding, producer, CAST(missing_before AS BIGINT) AS "count", 'numbers that never came' AS detail
FROM spend WHERE missing_before > 0
UNION ALL
SELECT 'spend' AS topic, generation, "partition", "offset", recorded_at, 'duplicate' AS finding, producer, CAST(1 AS BIGINT) AS "count", 'the number came before' AS detail
FROM spend WHERE duplicate
UNION ALL
SELECT 'limits' AS topic, generation, "partition", "offset", recorded_at, 'unreadable' AS finding, producer, CAST(1 AS BIGINT) AS "count", unreadable AS detail
FROM limits WHERE unreadable IS NOT NULL
UNION ALL
SELECT 'limits' AS topic, generation, "partition", "offset", recorded_at, 'gap' AS finding, producer, CAST(missing_before AS BIGINT) AS "count", 'numbers that never came' AS detail
FROM limits WHERE missing_before > 0
UNION ALL
SELECT 'limits' AS topic, generation, "partition", "offset", recorded_at, 'duplicate' AS finding, producer, CAST(1 AS BIGINT) AS "count", 'the number came before' AS detail
FROM limits WHERE duplicate
UNION ALL
SELECT 'policy' AS topic, generation, "partition", "offset", recorded_at, 'unreadable' AS finding, producer, CAST(1 AS BIGINT) AS "count", unreadable AS detail
FROM policy WHERE unreadable IS NOT NULL
UNION ALL
SELECT 'policy' AS topic, generation, "partition", "offset", recorded_at, 'gap' AS finding, producer, CAST(missing_before AS BIGINT) AS "count", 'numbers that never came' AS detail
FROM policy WHERE missing_before > 0
UNION ALL
SELECT 'policy' AS topic, generation, "partition", "offset", recorded_at, 'duplicate' AS finding, producer, CAST(1 AS BIGINT) AS "count", 'the number came before' AS detail
FROM policy WHERE duplicate
UNION ALL
SELECT finding_topic, NULL, CAST(finding_partition AS INT), finding_offset, recorded_at, finding_kind, finding_subject,
  finding_last - finding_first + 1, detail
FROM requests WHERE kind = 'Finding' AND NOT duplicate
