#!/bin/bash
# kafka.sh start|kill|down: one KRaft broker (combined mode) from the jars that `bed build kafka` fetched.
# Owns the broker process and $RUN/kafka. `kill` is a crash (-9); a `start` after it goes on with the same data and ports, and
# takes some seconds more: the controller first lets the dead broker's session run out.
#
# Listeners, all on free ports: PLAINTEXT and SASL (no TLS) on loopback, for tests on this machine; SASL_SSL bound to and
# advertised as KAFKA_HOST (default: the host as pods see it, if the cluster is up, else 127.0.0.1), with a certificate of
# the bed's own CA. Users: orders/orders-secret by PLAIN, SCRAM-SHA-256 and SCRAM-SHA-512.
. "$(dirname "$0")/../lib.sh"
D=$RUN/kafka
PID=$D/broker.pid
JAVA=(java -XX:+UseSerialGC "-Dlog4j2.configurationFile=file:$D/log4j2.properties" -cp "$KAFKA_LIBS/*")

configure() { # settings, certificate and an empty log
  local host plain controller sasl ssl
  host=${KAFKA_HOST:-$(host_ip)}
  mkdir -p "$D"
  # The broker's controller and SASL listeners are on loopback, the last one where pods look for it.
  read -r plain controller sasl < <(free_ports 127.0.0.1 3)
  ssl=$(free_ports "$host" 1)
  bash "$BED/ca.sh" "$D/tls" kafka "$host"
  cat "$D/tls/kafka.key" "$D/tls/kafka.crt" > "$D/tls/keystore.pem"
  cat > "$D/ports" << X
KAFKA_PLAIN=127.0.0.1:$plain
KAFKA_SASL=127.0.0.1:$sasl
KAFKA_SASL_SSL=$host:$ssl
X
  cat > "$D/server.properties" << X
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$controller
listeners=PLAINTEXT://127.0.0.1:$plain,SASL://127.0.0.1:$sasl,SASL_SSL://$host:$ssl,CONTROLLER://127.0.0.1:$controller
advertised.listeners=PLAINTEXT://127.0.0.1:$plain,SASL://127.0.0.1:$sasl,SASL_SSL://$host:$ssl
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SASL:SASL_PLAINTEXT,SASL_SSL:SASL_SSL,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512
listener.name.sasl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_orders="orders-secret";
listener.name.sasl.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.sasl.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.sasl_ssl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_orders="orders-secret";
listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.sasl_ssl.ssl.keystore.type=PEM
listener.name.sasl_ssl.ssl.keystore.location=$D/tls/keystore.pem
log.dirs=$D/data
default.replication.factor=1
min.insync.replicas=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
controlled.shutdown.enable=false
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=4000
num.network.threads=2
num.io.threads=4
log.cleaner.dedupe.buffer.size=2097152
log.segment.bytes=268435456
log.retention.hours=-1
X
  cat > "$D/log4j2.properties" << 'X'
status = error
appender.c.type = Console
appender.c.name = C
appender.c.layout.type = PatternLayout
appender.c.layout.pattern = [%d] %p %m (%c)%n
rootLogger.level = INFO
rootLogger.appenderRef.c.ref = C
X
  "${JAVA[@]}" -Xmx256m -XX:TieredStopAtLevel=1 kafka.tools.StorageTool format -t AAAAAAAAAAAAAAAAAAAAAQ -c "$D/server.properties" \
    --add-scram 'SCRAM-SHA-256=[name=orders,password=orders-secret]' --add-scram 'SCRAM-SHA-512=[name=orders,password=orders-secret]' \
    > "$D/format.log" 2>&1 || { cat "$D/format.log" >&2; return 1; }
}

case ${1:?} in
  start)
    [ -d "$KAFKA_LIBS" ] || die "the broker is not there: bed build kafka"
    ! alive "$PID" || die "already up: $D"
    [ -f "$D/data/meta.properties" ] || configure
    : > "$D/broker.log"
    start "$PID" "$D/broker.log" "${JAVA[@]}" -Xms256m "-Xmx${KAFKA_HEAP:-512m}" kafka.Kafka "$D/server.properties"
    up() { gone "$PID" || grep -q "Kafka Server started" "$D/broker.log"; }
    if ! { wait_for 60 "broker" up && alive "$PID"; }; then
      tail -n 20 "$D/broker.log" >&2
      stop "$PID" KILL
      die "the broker did not start"
    fi
    say "kafka ready" ;;
  kill) stop "$PID" KILL ;;
  down)
    stop "$PID" KILL # its data goes next
    rm -rf "$D" ;;
  *) die "usage: kafka.sh start|kill|down" ;;
esac
