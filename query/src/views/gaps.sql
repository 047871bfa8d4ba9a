-- What did not come as it should, by producer and partition: numbers that never came, facts that came twice or late,
-- records that cannot be read, ends that nobody signed for, and what readers found and recorded. Offsets that were gone
-- before they could be sealed have no record: `bursar gaps` names those too.
--   topic: The topic.
--   generation: Life of the topic; null for what a reader recorded.
--   partition: The partition.
--   producer: The producer concerned; null where none is known.
--   role: Its role.
--   finding: gap, duplicate, late, unreadable, open_end, or the kind of a recorded finding.
--   count: Facts concerned; of an open end those after the last signed head.
--   since: Since when: event time of the first fact concerned; of an open end the time of the last signed head.
--   until: Event time of the producer's latest fact, or of the latest such finding.
--   found_by: records, where it follows from the records themselves, or reader, where a reader recorded it.
--   detail: What it means, without any content.
WITH dated AS (
  SELECT *, /* now */ max(last_at) OVER () AS now_at FROM producers
),
marked AS (
  SELECT
    topic, generation, "partition", producer, role, last_at, kinds.finding AS finding,
    CASE kinds.finding
      WHEN 'gap' THEN missing WHEN 'duplicate' THEN duplicates WHEN 'late' THEN late WHEN 'unreadable' THEN unreadable
      ELSE unproven END AS "count",
    CASE kinds.finding
      WHEN 'gap' THEN missing_since WHEN 'duplicate' THEN duplicates_since WHEN 'late' THEN late_since
      WHEN 'unreadable' THEN unreadable_since ELSE unproven_since END AS since,
    CASE kinds.finding
      WHEN 'gap' THEN 'numbers that never came'
      WHEN 'duplicate' THEN 'facts whose number had come before; they count once'
      WHEN 'late' THEN 'facts after one whose event time is more than a minute later'
      WHEN 'unreadable' THEN 'records that are no facts of the contract'
      ELSE CASE state WHEN 'replaced' THEN 'a successor took over; no last head, tail unproven'
        ELSE 'silent for more than a minute after facts that no head covers; tail unproven' END END AS detail,
    CASE kinds.finding
      WHEN 'open_end' THEN state = 'replaced'
        OR (state = 'open' AND unproven > 0 AND last_at < now_at - INTERVAL '60 seconds')
      ELSE true END AS applies
  FROM dated
  CROSS JOIN (VALUES ('gap'), ('duplicate'), ('late'), ('unreadable'), ('open_end')) AS kinds(finding)
)
SELECT topic, generation, "partition", producer, role, finding, "count", since, last_at AS until, 'records' AS found_by, detail
FROM marked
WHERE applies AND ("count" > 0 OR finding = 'open_end')
UNION ALL
SELECT
  finding_topic, NULL, CAST(finding_partition AS INT), finding_subject, NULL, finding_kind,
  sum(least(greatest(finding_last - finding_first, 0), 1000000000000) + 1), min("at"), max("at"), 'reader', min(detail)
FROM requests
WHERE kind = 'Finding' AND NOT duplicate AND /* since */ true
GROUP BY finding_topic, finding_partition, finding_subject, finding_kind
