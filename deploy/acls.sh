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

# One call for each set of rights: every call starts a Java process.
allow() { # "principal..." "operation..." topic...
  local arguments=() principal operation topic
  for principal in $1; do arguments+=(--allow-principal "$principal"); done
  for operation in $2; do arguments+=(--operation "$operation"); done
  for topic in "${@:3}"; do arguments+=(--topic "$prefix.$topic"); done
  $acls --add "${arguments[@]}"
}

allow "User:shim User:ledger User:archiver User:query" "Read Describe DescribeConfigs" requests routes spend limits policy
allow User:shim Write requests routes spend
allow User:ledger Write requests limits policy
allow User:query Write requests
# What `bursar retention apply` removes is recorded.
allow User:archiver Write requests
# Idempotent producers need this on brokers older than 3.0 only; it is harmless on newer ones.
$acls --add --allow-principal User:shim --allow-principal User:ledger --allow-principal User:query --allow-principal User:archiver \
  --operation IdempotentWrite --cluster
