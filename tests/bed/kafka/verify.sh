#!/bin/bash
# Proves the running broker with Java's own console clients: every listener and mechanism, and that a wrong password or
# a client without the bed's authority is refused. Owns the topics `verify-*`.
. "$(dirname "$0")/../lib.sh"
D=$RUN/kafka
# shellcheck source=/dev/null
. "$D/ports"
T=$(mktemp -d)
trap 'rm -rf "$T"' EXIT
tool() { java -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -cp "$KAFKA_LIBS/*" "$@" 2> "$T/stderr"; }
client() { # client FILE PROTOCOL MECHANISM PASSWORD [CA]
  local login=plain.PlainLoginModule
  [ "$3" = PLAIN ] || login=scram.ScramLoginModule
  {
    echo "security.protocol=$2"
    echo "sasl.mechanism=$3"
    echo "sasl.jaas.config=org.apache.kafka.common.security.$login required username=\"orders\" password=\"$4\";"
    [ -z "${5:-}" ] || printf '%s\n' ssl.truststore.type=PEM "ssl.truststore.location=$5"
  } > "$T/$1"
}
client sasl-plain SASL_PLAINTEXT PLAIN orders-secret
client sasl-scram SASL_PLAINTEXT SCRAM-SHA-256 orders-secret
client ssl-plain SASL_SSL PLAIN orders-secret "$RUN/ca/ca.crt"
client ssl-scram SASL_SSL SCRAM-SHA-256 orders-secret "$RUN/ca/ca.crt"
client ssl-scram-512 SASL_SSL SCRAM-SHA-512 orders-secret "$RUN/ca/ca.crt"
client wrong-password SASL_SSL SCRAM-SHA-256 guess "$RUN/ca/ca.crt"
client no-authority SASL_SSL PLAIN orders-secret
echo "security.protocol=PLAINTEXT" > "$T/plaintext"

round_trip() { # round_trip CLIENT ADDRESS: three records out and in again
  tool org.apache.kafka.tools.TopicCommand --bootstrap-server "$2" --command-config "$T/$1" --create --topic "verify-$1" --partitions 1 > /dev/null || return 1
  printf '%s\n' one two three |
    tool org.apache.kafka.tools.ConsoleProducer --bootstrap-server "$2" --producer.config "$T/$1" --topic "verify-$1" > /dev/null || return 1
  [ "$(tool org.apache.kafka.tools.consumer.ConsoleConsumer --bootstrap-server "$2" --consumer.config "$T/$1" --topic "verify-$1" \
    --from-beginning --max-messages 3 --timeout-ms 20000 | tr '\n' ' ')" = "one two three " ] || return 1
  tool org.apache.kafka.tools.TopicCommand --bootstrap-server "$2" --command-config "$T/$1" --delete --topic "verify-$1" > /dev/null
}
refused() { # refused CLIENT EXCEPTION
  ! tool org.apache.kafka.tools.TopicCommand --bootstrap-server "$KAFKA_SASL_SSL" --command-config "$T/$1" --list > "$T/out" || return 1
  grep -q "$2" "$T/stderr" "$T/out"
}
FAILED=0
step() {
  local s name=$1
  s=$(now_ms)
  shift
  if "$@"; then printf 'ok   %6d ms  %s\n' $(($(now_ms) - s)) "$name"; else
    printf 'FAIL %6d ms  %s | %s\n' $(($(now_ms) - s)) "$name" "$(tail -n 3 "$T/stderr")"
    FAILED=1
  fi
}
step "PLAINTEXT $KAFKA_PLAIN" round_trip plaintext "$KAFKA_PLAIN"
step "SASL PLAIN $KAFKA_SASL" round_trip sasl-plain "$KAFKA_SASL"
step "SASL SCRAM-SHA-256 $KAFKA_SASL" round_trip sasl-scram "$KAFKA_SASL"
step "SASL_SSL PLAIN $KAFKA_SASL_SSL" round_trip ssl-plain "$KAFKA_SASL_SSL"
step "SASL_SSL SCRAM-SHA-256 $KAFKA_SASL_SSL" round_trip ssl-scram "$KAFKA_SASL_SSL"
step "SASL_SSL SCRAM-SHA-512 $KAFKA_SASL_SSL" round_trip ssl-scram-512 "$KAFKA_SASL_SSL"
step "a wrong password is refused" refused wrong-password SaslAuthenticationException
step "a client without the authority refuses the broker" refused no-authority SslAuthenticationException
exit $FAILED
