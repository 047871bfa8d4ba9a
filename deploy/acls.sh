#!/usr/bin/env bash
# Sets up who may write which topic. Run once, as a Kafka administrator, after the topics exist:
#
#   KAFKA_ACLS="kafka-acls.sh --bootstrap-server HOST:PORT --command-config admin.properties" deploy/acls.sh [PREFIX]
#
# Principals: User:shim, User:ledger (with the administration), User:archiver, User:query.
# Nobody but the ledger writes `limits`, nobody but the ledger's administration writes `policy`.
set -euo pipefail
acls="${KAFKA_ACLS:-kafka-acls.sh --bootstrap-server localhost:9092}"
prefix="${1:-bursar}"

allow() { # principal operation topic...
  local principal=$1 operation=$2
  shift 2
  for topic in "$@"; do
    $acls --add --allow-principal "$principal" --operation "$operation" --topic "$prefix.$topic"
  done
}

for principal in User:shim User:ledger User:archiver User:query; do
  for operation in Read Describe DescribeConfigs; do
    allow "$principal" "$operation" requests routes spend limits policy
  done
done
allow User:shim Write requests routes spend
allow User:ledger Write requests limits policy
allow User:query Write requests
# Idempotent producers need this on brokers older than 3.0 only; it is harmless on newer ones.
for principal in User:shim User:ledger User:query; do
  $acls --add --allow-principal "$principal" --operation IdempotentWrite --cluster
done
