//! Names of settings that mean something else here than where they were copied from.

const FOR_COMMITS: &str = "Khaos commits an offset itself, once what was read up to it is on disk: \
                           leave it out";
const FOR_DELIVERY: &str = "Khaos sets it itself, because every event is to be delivered once, in \
                            order, and counted: leave it out";
const FOR_GROUPS: &str =
    "Khaos assigns partitions itself and is a member of no group: leave it out";
const TRUST: &str = "Java's truststore is no file for librdkafka: export its certificates as PEM \
                     (keytool -exportcert -rfc) and write ssl.ca.location=FILE.pem";
const IDENTITY: &str = "Java's keystore is no file for librdkafka: export key and certificates as PEM \
                        (keytool -importkeystore to PKCS#12, then openssl pkcs12) and write \
                        ssl.certificate.location=FILE.pem and ssl.key.location=FILE.pem";
const JAVA_ONLY: &str = "it means something to Java's clients only: leave it out";

/// Why `key` cannot be in a file, and what to write instead.
pub(super) fn refused(key: &str) -> Option<&'static str> {
    Some(match key {
        "group.id" => {
            "Khaos reads in a group of its own, so that it does not get in the way of a job: leave \
             it out, and choose another name with --group"
        }
        "enable.auto.commit"
        | "auto.commit.enable"
        | "auto.commit.interval.ms"
        | "enable.auto.offset.store"
        | "offset.store.method" => FOR_COMMITS,
        "auto.offset.reset" => {
            "Khaos never skips what is not there any more: leave it out, and say where to begin with \
             --from"
        }
        "group.instance.id"
        | "group.protocol"
        | "group.protocol.type"
        | "group.remote.assignor"
        | "partition.assignment.strategy" => FOR_GROUPS,
        "acks"
        | "request.required.acks"
        | "enable.idempotence"
        | "enable.gapless.guarantee"
        | "transactional.id"
        | "transaction.timeout.ms"
        | "retries"
        | "message.send.max.retries"
        | "max.in.flight"
        | "max.in.flight.requests.per.connection"
        | "message.timeout.ms"
        | "delivery.timeout.ms"
        | "delivery.report.only.error"
        | "partitioner" => FOR_DELIVERY,
        "enable.partition.eof" | "statistics.interval.ms" | "log.queue" | "log_level" => {
            "Khaos sets it itself, to know where it is: leave it out"
        }
        "allow.auto.create.topics" => {
            "Khaos makes no topic by asking for it, a name may be misspelt: leave it out"
        }
        "sasl.jaas.config" => {
            "it is Java's: write sasl.username and sasl.password instead, secrets as ${env:NAME} or \
             ${file:PATH}"
        }
        "ssl.truststore.certificates" => "it is Java's: write ssl.ca.pem instead",
        "ssl.keystore.key" => "it is Java's: write ssl.key.pem instead",
        "ssl.keystore.certificate.chain" => "it is Java's: write ssl.certificate.pem instead",
        "fetch.max.wait.ms" => "it is Java's: write fetch.wait.max.ms instead",
        "max.request.size" => "it is Java's: write message.max.bytes instead",
        "receive.buffer.bytes" => "it is Java's: write socket.receive.buffer.bytes instead",
        "send.buffer.bytes" => "it is Java's: write socket.send.buffer.bytes instead",
        "buffer.memory" => "it is Java's: write queue.buffering.max.kbytes instead, in KiB",
        "key.serializer"
        | "value.serializer"
        | "key.deserializer"
        | "value.deserializer"
        | "interceptor.classes"
        | "metric.reporters"
        | "max.poll.records"
        | "max.block.ms"
        | "default.api.timeout.ms"
        | "security.providers"
        | "exclude.internal.topics"
        | "ssl.protocol"
        | "ssl.enabled.protocols"
        | "ssl.provider"
        | "ssl.engine.factory.class"
        | "ssl.trustmanager.algorithm"
        | "ssl.keymanager.algorithm"
        | "ssl.secure.random.implementation" => JAVA_ONLY,
        _ if key.starts_with("ssl.truststore.") => TRUST,
        _ if key.starts_with("ssl.keystore.") => IDENTITY,
        _ if key.starts_with("sasl.login.") || key.ends_with(".callback.handler.class") => {
            JAVA_ONLY
        }
        _ => return None,
    })
}

/// Why `value`, looked up, is none for `key`.
pub(super) fn refused_value(key: &str, value: &str) -> Option<&'static str> {
    match key {
        "sasl.mechanism" | "sasl.mechanisms" if value.eq_ignore_ascii_case("GSSAPI") => {
            Some("Kerberos is not built in: use PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512")
        }
        "ssl.endpoint.identification.algorithm" if value.is_empty() => {
            Some("to leave out the check write none, not nothing as for Java")
        }
        _ => None,
    }
}

/// What to do where `value` for `key` needs TLS and this build has none.
pub(super) fn needs_tls(key: &str, value: &str) -> Option<String> {
    if cfg!(feature = "kafka-tls") {
        return None;
    }
    let value = value.to_ascii_uppercase();
    let needed = match key {
        "security.protocol" => matches!(value.as_str(), "SSL" | "SASL_SSL"),
        "sasl.mechanism" | "sasl.mechanisms" => {
            value.starts_with("SCRAM-") || value == "OAUTHBEARER"
        }
        key => key.starts_with("ssl."),
    };
    needed.then(|| {
        // Others may be secrets.
        let what = if key.starts_with("ssl.") { key } else { &value };
        format!("this khaos was built without TLS, which {what} needs: build it with --features kafka-tls")
    })
}

/// Is what stands there a secret?
pub(super) fn secret(key: &str) -> bool {
    ["password", "secret", ".key.pem", "passphrase", "oauthbearer.config"]
        .iter()
        .any(|part| key.contains(part))
}
