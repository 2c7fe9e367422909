//! What a Kafka client has to be told: where the brokers are, and how to prove who it is.
//!
//! Settings have librdkafka's names, which are those of its CONFIGURATION.md. A file of them reads like
//! Java's client.properties. Secrets stay where they are until a client is made.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError as Native;
use thiserror::Error;

mod java;
mod names;

/// A setting, or the file that it stands in, is not usable.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{place}: {why}")]
pub struct SettingsError {
    /// File, line and key, as far as they matter.
    pub place: String,
    /// What is wrong, and what to write instead.
    pub why: String,
}

/// Where the brokers are, and how to speak to them. Shows names of settings, never their values.
#[derive(Clone)]
pub struct KafkaSettings {
    bootstrap: String,
    properties: Vec<Property>,
}

/// One line of a file, its value as written.
#[derive(Clone)]
struct Property {
    key: String,
    value: String,
    file: PathBuf,
    line: usize,
}

impl KafkaSettings {
    /// Brokers without any protection. `bootstrap` is HOST:PORT, several separated by commas.
    pub fn at(bootstrap: &str) -> Result<Self, SettingsError> {
        check_bootstrap("bootstrap servers", bootstrap)?;
        Ok(Self { bootstrap: bootstrap.to_owned(), properties: Vec::new() })
    }

    /// Reads `file`, lines of `key=value`; `bootstrap` overrides the file's own bootstrap.servers. Values
    /// may hold `${env:NAME}` and `${file:PATH}`, which are looked up each time that a client is made,
    /// and once here: what cannot be looked up now is an error now.
    pub fn read(bootstrap: Option<&str>, file: &Path) -> Result<Self, SettingsError> {
        let text = std::fs::read_to_string(file).map_err(|error| SettingsError {
            place: file.display().to_string(),
            why: format!("cannot be read: {error}"),
        })?;
        Self::parse(bootstrap, file, &text)
    }

    fn parse(bootstrap: Option<&str>, file: &Path, text: &str) -> Result<Self, SettingsError> {
        let mut lines = BTreeMap::new();
        let mut found = None;
        let mut properties = Vec::new();
        for java::Entry { line, key, value } in java::entries(text) {
            let property = Property { key, value, file: file.to_owned(), line };
            if let Some(before) = lines.insert(property.key.clone(), line) {
                return Err(property.wrong(&format!("it stands in line {before} already")));
            }
            if matches!(property.key.as_str(), "bootstrap.servers" | "metadata.broker.list") {
                check_bootstrap(&property.place(), &property.value)?;
                found = Some(property.value);
                continue;
            }
            if let Some(why) = names::refused(&property.key) {
                return Err(property.wrong(why));
            }
            properties.push(property);
        }
        let bootstrap = match (bootstrap, found) {
            (Some(given), _) => {
                check_bootstrap("--bootstrap", given)?;
                given.to_owned()
            }
            (None, Some(found)) => found,
            (None, None) => {
                return Err(SettingsError {
                    place: file.display().to_string(),
                    why: "there is no bootstrap.servers in it: add it, or give --bootstrap \
                          HOST:PORT"
                        .to_owned(),
                });
            }
        };
        let settings = Self { bootstrap, properties };
        settings.client()?;
        Ok(settings)
    }

    /// Where the brokers are, as given.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// What a client of any kind begins with, secrets looked up. Consumers and producers add what is
    /// theirs; nothing of that can be in a file, because [`KafkaSettings::read`] refuses it.
    pub fn client(&self) -> Result<ClientConfig, SettingsError> {
        let mut config = ClientConfig::new();
        config
            .set("client.id", "khaos")
            .set("bootstrap.servers", &self.bootstrap)
            // A connection that a firewall dropped is noticed.
            .set("socket.keepalive.enable", "true")
            // A broker that is back is noticed within seconds, not within ten.
            .set("reconnect.backoff.max.ms", "2000");
        for property in &self.properties {
            let value = property.resolved()?;
            property.check(&value)?;
            config.set(&property.key, value);
        }
        // `debug` is in the file because somebody wants to see it.
        if config.get("debug").is_some() {
            config.set_log_level(RDKafkaLogLevel::Debug);
        }
        Ok(config)
    }
}

impl fmt::Debug for KafkaSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<&str> = self.properties.iter().map(|p| p.key.as_str()).collect();
        f.debug_struct("KafkaSettings")
            .field("bootstrap", &self.bootstrap)
            .field("properties", &keys)
            .finish()
    }
}

impl Property {
    fn place(&self) -> String {
        format!("{}: line {}: {}", self.file.display(), self.line, self.key)
    }

    fn wrong(&self, why: &str) -> SettingsError {
        SettingsError { place: self.place(), why: why.to_owned() }
    }

    /// The value with everything looked up that stands elsewhere.
    fn resolved(&self) -> Result<String, SettingsError> {
        let mut resolved = String::new();
        let mut rest = self.value.as_str();
        while let Some((before, reference)) = rest.split_once("${") {
            let Some((kind, name)) = reference.split_once(':').filter(|(kind, _)| word(kind))
            else {
                // A password may hold a dollar and a brace.
                resolved.push_str(before);
                resolved.push_str("${");
                rest = reference;
                continue;
            };
            let Some((name, after)) = name.split_once('}') else {
                return Err(self.wrong(&format!("the brace of ${{{kind}:… is not closed")));
            };
            resolved.push_str(before);
            resolved.push_str(&self.look_up(kind, name)?);
            rest = after;
        }
        resolved.push_str(rest);
        Ok(resolved)
    }

    fn look_up(&self, kind: &str, name: &str) -> Result<String, SettingsError> {
        match kind {
            "env" => std::env::var(name)
                .map_err(|error| self.wrong(&format!("the environment variable {name}: {error}"))),
            "file" => match std::fs::read_to_string(name) {
                // Editors end files with a line end that no password has.
                Ok(text) => Ok(text.trim_end_matches(['\r', '\n']).to_owned()),
                Err(error) => Err(self.wrong(&format!("{name} cannot be read: {error}"))),
            },
            _ => Err(self.wrong(&format!(
                "there is no ${{{kind}:…}}: write ${{env:NAME}} or ${{file:PATH}}"
            ))),
        }
    }

    /// Would librdkafka, as it was built, take it?
    fn check(&self, value: &str) -> Result<(), SettingsError> {
        if let Some(why) = names::needs_tls(&self.key, value) {
            return Err(self.wrong(&why));
        }
        if let Some(why) = names::refused_value(&self.key, value) {
            return Err(self.wrong(why));
        }
        let mut alone = ClientConfig::new();
        alone.set(&self.key, value);
        match alone.create_native_config() {
            Ok(_) => Ok(()),
            Err(Native::ClientConfig(_, why, _, _)) if why.starts_with("No such") => Err(self
                .wrong(
                    "librdkafka knows no such property: its CONFIGURATION.md lists them, some \
                     differ from Java's",
                )),
            // librdkafka's words would quote the value.
            Err(_) if names::secret(&self.key) || value != self.value => {
                Err(self.wrong("librdkafka does not take its value"))
            }
            Err(Native::ClientConfig(_, why, _, _)) => Err(self.wrong(&why)),
            Err(error) => Err(self.wrong(&error.to_string())),
        }
    }
}

fn word(kind: &str) -> bool {
    !kind.is_empty() && kind.chars().all(|c| c.is_ascii_lowercase())
}

/// `text` is a list of HOST:PORT.
fn check_bootstrap(place: &str, text: &str) -> Result<(), SettingsError> {
    let is_broker = |broker: &str| {
        let Some((host, port)) = broker.trim().rsplit_once(':') else { return false };
        let host = !host.is_empty() && !host.contains(['/', ' ']);
        host && port.parse::<u16>().is_ok_and(|port| port > 0)
    };
    match text.split(',').find(|broker| !is_broker(broker)) {
        None => Ok(()),
        Some(broker) => Err(SettingsError {
            place: place.to_owned(),
            why: format!(
                "'{broker}' is no broker: write HOST:PORT, several separated by commas, as in \
                 kafka-1:9092,kafka-2:9092"
            ),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<KafkaSettings, SettingsError> {
        KafkaSettings::parse(Some("a:9092,b:9093"), Path::new("client.properties"), text)
    }

    #[test]
    fn what_a_file_says_reaches_the_client() {
        let settings = read(
            "# who we are\nsecurity.protocol = SASL_PLAINTEXT\nsasl.mechanism=PLAIN\n\
             sasl.username=me\nsasl.password=a${b$\\u0041 \\\n   c\n",
        )
        .unwrap();
        let config = settings.client().unwrap();
        assert_eq!(config.get("bootstrap.servers"), Some("a:9092,b:9093"));
        assert_eq!(config.get("security.protocol"), Some("SASL_PLAINTEXT"));
        assert_eq!(config.get("sasl.username"), Some("me"));
        assert_eq!(config.get("sasl.password"), Some("a${b$A c"));
    }

    #[test]
    fn the_command_line_outranks_the_file() {
        let text = "bootstrap.servers=c:1\n";
        let file = Path::new("client.properties");
        assert_eq!(KafkaSettings::parse(None, file, text).unwrap().bootstrap(), "c:1");
        assert_eq!(KafkaSettings::parse(Some("d:2"), file, text).unwrap().bootstrap(), "d:2");
        let none = KafkaSettings::parse(None, file, "client.id=x\n").unwrap_err().to_string();
        assert!(none.contains("client.properties: there is no bootstrap.servers"), "{none}");
    }

    #[test]
    fn secrets_come_from_the_environment_and_from_files_at_the_last_moment() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        std::fs::write(&path, "hush\n").unwrap();
        let text = format!(
            "sasl.username=${{env:CARGO_PKG_NAME}}\nsasl.password=<${{file:{}}}>\n",
            path.display()
        );
        let settings = read(&text).unwrap();
        let config = settings.client().unwrap();
        assert_eq!(config.get("sasl.username"), Some("khaos-adapters"));
        assert_eq!(config.get("sasl.password"), Some("<hush>"));
        std::fs::write(&path, "changed").unwrap();
        assert_eq!(settings.client().unwrap().get("sasl.password"), Some("<changed>"));
        std::fs::remove_file(&path).unwrap();
        let gone = settings.client().unwrap_err().to_string();
        assert!(gone.starts_with("client.properties: line 2: sasl.password: "), "{gone}");
        assert!(gone.contains("cannot be read"), "{gone}");
    }

    #[test]
    fn no_value_is_ever_shown() {
        let settings = read("sasl.password=hunter2\nsasl.username=hunter2\n").unwrap();
        assert!(!format!("{settings:?}").contains("hunter2"));
        for text in [
            "sasl.password=hunter2\nsasl.password=hunter2\n",
            "sasl.password=${vault:hunter2}\n",
            "sasl.password=${env:x hunter2\n",
            "sasl.jaas.config=PlainLoginModule required password=\"hunter2\";\n",
            "ssl.truststore.password=hunter2\n",
            "sasl.oauthbearer.client.secrets=hunter2\n",
        ] {
            let message = read(text).unwrap_err().to_string();
            assert!(message.starts_with("client.properties: line "), "{message}");
            assert!(!message.contains("hunter2"), "{message}");
        }
    }

    /// What librdkafka says of a value quotes it: not of one that was looked up.
    #[test]
    fn a_value_that_was_looked_up_is_not_quoted_either() {
        let plain = read("broker.address.family=soon\n").unwrap_err().to_string();
        assert!(plain.contains("broker.address.family: ") && plain.contains("soon"), "{plain}");
        let looked_up =
            read("broker.address.family=${env:CARGO_PKG_NAME}\n").unwrap_err().to_string();
        assert!(!looked_up.contains("khaos-adapters"), "{looked_up}");
    }

    #[test]
    fn what_is_refused_says_what_to_write_instead() {
        for (text, says) in [
            ("acks=1\n", "line 1: acks: "),
            ("enable.idempotence=false\n", "Khaos"),
            ("enable.auto.commit=true\n", "on disk"),
            ("\n\ngroup.id=x\n", "line 3: group.id: Khaos"),
            ("auto.offset.reset=latest\n", "--from"),
            ("sasl.jaas.config=x\n", "sasl.username and sasl.password"),
            ("ssl.truststore.location=/x.jks\n", "ssl.ca.location"),
            ("ssl.truststore.type=JKS\n", "ssl.ca.location"),
            ("ssl.keystore.location=/x.jks\n", "ssl.certificate.location"),
            ("key.deserializer=x\n", "leave it out"),
            ("no.such.thing=x\n", "librdkafka knows no such property"),
            ("sasl.mechanism=GSSAPI\n", "Kerberos"),
            ("sasl.username=${env:KHAOS_NOT_SET}\n", "KHAOS_NOT_SET: environment variable not"),
            ("bootstrap.servers=nowhere\n", "'nowhere' is no broker"),
        ] {
            let message = read(text).unwrap_err().to_string();
            assert!(message.contains(says), "{message}");
            assert!(message.starts_with("client.properties: line "), "{message}");
        }
        for bootstrap in ["", "host", "host:", ":1", "host:0", "host:99999", "a:1,", "http://a:1/"]
        {
            assert!(KafkaSettings::at(bootstrap).is_err(), "{bootstrap}");
        }
        for bootstrap in ["host:1", "a:1, b:2", "[::1]:9092"] {
            assert!(KafkaSettings::at(bootstrap).is_ok(), "{bootstrap}");
        }
    }

    #[test]
    fn tls_is_a_feature_of_the_build() {
        for text in [
            "security.protocol=SASL_SSL\n",
            "sasl.mechanisms=SCRAM-SHA-512\n",
            "ssl.key.password=hunter2\n",
        ] {
            let read = read(text);
            assert_eq!(read.is_ok(), cfg!(feature = "kafka-tls"), "{text}");
            if let Err(error) = read {
                assert!(error.to_string().contains("--features kafka-tls"), "{error}");
                assert!(!error.to_string().contains("hunter2"), "{error}");
            }
        }
    }
}
