//! What clones of a job need made and removed on a cluster: topics, groups, and transactions that were left open.
//!
//! Each question has a thread of its own, and clients of its own in it: librdkafka waits, also for the end of a client.
//! Every wait has a deadline. What was begun goes on until its end there when nobody waits for it any more.

pub mod doctor;
mod transactions;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic as Wanted, TopicReplication};
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError as Native, RDKafkaErrorCode as Code};
use rdkafka::groups::GroupInfo;
use rdkafka::metadata::MetadataTopic;
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::error::{is_no_topic, may_pass};
use super::hearing::Hearing;
use super::{Cluster, Failed, KafkaError, KafkaSettings, PATIENCE, in_thread, listen, not_made};
pub use transactions::Transaction;

/// How long a group may have members yet. One that died is a member until its session times out: 45 s by default.
const LEAVING: Duration = Duration::from_mins(1);

/// Makes and removes topics, groups and open transactions of a cluster.
#[derive(Debug, Clone)]
pub struct Admin {
    settings: KafkaSettings,
}

/// A topic that is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// How many partitions, at least 1.
    pub partitions: i32,
    /// What is not to be as the broker has it for others, such as `retention.ms`.
    pub settings: BTreeMap<String, String>,
}

impl Admin {
    /// Whether anybody is there shows with the first question.
    pub fn at(settings: &KafkaSettings) -> Result<Self, KafkaError> {
        settings.client()?;
        Ok(Self { settings: settings.clone() })
    }

    /// The topics that this user may see, in order. Internal ones, whose names begin with `__`, are left out.
    pub async fn topics(&self) -> Result<Vec<String>, KafkaError> {
        self.in_thread(Hands::topics).await
    }

    /// Makes topics, with as many replicas as the broker gives to others, and returns when a client is told of all
    /// their partitions and the leaders of these. One that is there already is an error. Where one cannot be made,
    /// none is, unless what forbids it came in between.
    pub async fn create(&self, topics: &[NewTopic]) -> Result<(), KafkaError> {
        let topics = topics.to_vec();
        self.in_thread(move |hands| hands.create(&topics)).await
    }

    /// Removes topics with all that is in them, and returns when a client is told of none of them any more. One that
    /// is gone is no error. Where one cannot be removed the others are, and the first such error is told.
    pub async fn delete(&self, topics: &[String]) -> Result<(), KafkaError> {
        let topics = topics.to_vec();
        self.in_thread(move |hands| hands.delete(&topics)).await
    }

    /// The groups that this user may see and whose names begin with `prefix`, in order, of whatever kind.
    pub async fn groups(&self, prefix: &str) -> Result<Vec<String>, KafkaError> {
        let prefix = prefix.to_owned();
        self.in_thread(move |hands| hands.groups(&prefix)).await
    }

    /// Removes groups with their offsets. One that is gone is no error. One that has members is waited for, up to
    /// a minute. Where one cannot be removed the others are, and the first such error is told.
    pub async fn delete_groups(&self, groups: &[String]) -> Result<(), KafkaError> {
        let groups = groups.to_vec();
        self.in_thread(move |hands| hands.delete_groups(&groups)).await
    }

    /// The transactional ids that begin with `prefix`, in order: all that were used within the last week, unless the
    /// broker's `transactional.id.expiration.ms` says otherwise. Takes the right to read `__transaction_state`.
    pub async fn transactions(&self, prefix: &str) -> Result<Vec<Transaction>, KafkaError> {
        let prefix = prefix.to_owned();
        self.in_thread(move |hands| transactions::list(&hands.settings, &hands.cluster, &prefix))
            .await
    }

    /// Aborts what is open of these transactional ids, and returns when it is: whoever reads only what is committed
    /// gets on. Whatever still produces with such an id can never again, so it has to be gone for good. An id that
    /// nobody used is one that was used afterwards. Where one cannot be aborted the others are, and the first such
    /// error is told.
    pub async fn abort(&self, ids: &[String]) -> Result<(), KafkaError> {
        let ids = ids.to_vec();
        self.in_thread(move |hands| transactions::abort(&hands.settings, &ids)).await
    }

    async fn in_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Hands) -> Result<T, KafkaError> + Send + 'static,
    ) -> Result<T, KafkaError> {
        let (settings, runtime) = (self.settings.clone(), Handle::current());
        let doing = format!("asking {}", settings.bootstrap());
        in_thread(&doing, move || work(&Hands::at(settings, runtime)?)).await
    }
}

/// What a thread works with.
struct Hands {
    settings: KafkaSettings,
    cluster: Cluster,
    /// Hears nothing: why nobody answers is known from `cluster`, which is asked first.
    client: AdminClient<Hearing>,
    /// Where the client's answers are waited for.
    runtime: Handle,
}

impl Hands {
    fn at(settings: KafkaSettings, runtime: Handle) -> Result<Self, KafkaError> {
        let cluster = Cluster::at(&settings)?;
        let client = settings
            .client()?
            .create_with_context(Hearing::default())
            .map_err(|error| not_made(&error))?;
        Ok(Self { settings, cluster, client, runtime })
    }

    fn topics(&self) -> Result<Vec<String>, KafkaError> {
        let names = self.cluster.ask(|consumer, within| {
            let all = consumer.fetch_metadata(None, within)?;
            let names = all.topics().iter().map(MetadataTopic::name);
            Ok(names.filter(|name| !name.starts_with("__")).map(str::to_owned).collect())
        });
        self.in_order("topics", names)
    }

    fn groups(&self, prefix: &str) -> Result<Vec<String>, KafkaError> {
        let names = self.cluster.ask(|consumer, within| {
            let all = consumer.fetch_group_list(None, within)?;
            let names = all.groups().iter().map(GroupInfo::name);
            Ok(names.filter(|name| name.starts_with(prefix)).map(str::to_owned).collect())
        });
        self.in_order("groups", names)
    }

    fn in_order(
        &self,
        what: &str,
        names: Result<BTreeSet<String>, Failed>,
    ) -> Result<Vec<String>, KafkaError> {
        match names {
            Ok(names) => Ok(names.into_iter().collect()),
            Err(Failed::Kafka(error)) => Err(error),
            Err(Failed::Code(code)) => Err(KafkaError::Other {
                doing: format!("the {what} of {}", self.settings.bootstrap()),
                why: code.to_string(),
            }),
        }
    }

    fn create(&self, topics: &[NewTopic]) -> Result<(), KafkaError> {
        self.topics()?;
        if topics.is_empty() {
            // librdkafka takes no empty list.
            return Ok(());
        }
        let wanted: Vec<Wanted<'_>> = topics.iter().map(wanted).collect();
        for only_asked in [true, false] {
            let made = self.client.create_topics(&wanted, &options().validate_only(only_asked));
            let answers = self.runtime.block_on(made).map_err(|error| self.failed(&error))?;
            if let Some((name, code)) = answers.into_iter().find_map(Result::err) {
                return Err(not_created(&name, code));
            }
        }
        // Brokers learn of a topic one after the other, and later who leads its partitions.
        self.until_nothing(PATIENCE, || {
            let mut lacking = Vec::new();
            for topic in topics {
                if self.led(&topic.name)? < topic.partitions {
                    lacking.push(topic.name.as_str());
                }
            }
            Ok(of_topics(&lacking, "were made, but not all of their partitions have leaders"))
        })
    }

    /// Of how many partitions of `topic` a client is told the leader; none where it is told of no such topic.
    fn led(&self, topic: &str) -> Result<i32, KafkaError> {
        let led = self.cluster.ask(|consumer, within| {
            let metadata = consumer.fetch_metadata(Some(topic), within)?;
            let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else {
                return Ok(0);
            };
            match found.error().map(Code::from) {
                Some(code) if !is_no_topic(code) && !may_pass(code) => {
                    Err(Native::MetadataFetch(code))
                }
                _ => {
                    let partitions = found.partitions().iter();
                    let led = partitions.filter(|it| it.error().is_none() && it.leader() >= 0);
                    Ok(led.count() as i32)
                }
            }
        });
        led.map_err(|failed| self.cluster.of_topic(topic, failed))
    }

    fn delete(&self, topics: &[String]) -> Result<(), KafkaError> {
        self.topics()?;
        let delete = |left: &[&str]| self.client.delete_topics(left, &options());
        self.remove(topics, PATIENCE, delete, not_deleted)?;
        self.until_nothing(PATIENCE, || {
            let there = self.topics()?;
            let stay: Vec<&str> =
                there.iter().filter(|name| topics.contains(name)).map(String::as_str).collect();
            Ok(of_topics(&stay, "were deleted, but are still listed"))
        })
    }

    fn delete_groups(&self, groups: &[String]) -> Result<(), KafkaError> {
        self.topics()?;
        let delete = |left: &[&str]| self.client.delete_groups(left, &options());
        self.remove(groups, LEAVING, delete, group_not_deleted)
    }

    /// Asks `delete` to remove `names` until each is gone or refused; `meaning` says what a code means then.
    fn remove<Answer>(
        &self,
        names: &[String],
        patience: Duration,
        delete: impl Fn(&[&str]) -> Answer,
        meaning: impl Fn(&str, Code) -> KafkaError,
    ) -> Result<(), KafkaError>
    where
        Answer: Future<Output = Result<Vec<Result<String, (String, Code)>>, Native>>,
    {
        let mut left: BTreeSet<&str> = names.iter().map(String::as_str).collect();
        let mut refused = None;
        self.until_nothing(patience, || {
            if left.is_empty() {
                return Ok(None);
            }
            let asked: Vec<&str> = left.iter().copied().collect();
            let answers =
                self.runtime.block_on(delete(&asked)).map_err(|error| self.failed(&error))?;
            left.clear();
            let mut last = None;
            for (name, code) in answers.iter().filter_map(|answer| answer.as_ref().err()) {
                if may_pass(*code) || *code == Code::NonEmptyGroup {
                    left.extend(asked.iter().filter(|asked| *asked == name));
                    last = Some(meaning(name, *code));
                } else if !is_no_topic(*code) && *code != Code::GroupIdNotFound {
                    refused.get_or_insert_with(|| meaning(name, *code));
                }
            }
            Ok(last)
        })?;
        refused.map_or(Ok(()), Err)
    }

    /// Looks until `look` finds nothing that is left. What it finds after `patience` is the error.
    fn until_nothing(
        &self,
        patience: Duration,
        mut look: impl FnMut() -> Result<Option<KafkaError>, KafkaError>,
    ) -> Result<(), KafkaError> {
        let deadline = Instant::now() + patience;
        while let Some(left) = look()? {
            if Instant::now() >= deadline {
                return Err(left);
            }
            listen(&self.cluster.consumer);
        }
        Ok(())
    }

    /// What it means that nothing of a request was answered.
    fn failed(&self, error: &Native) -> KafkaError {
        let bootstrap = self.settings.bootstrap().to_owned();
        match error {
            Native::AdminOp(code) if may_pass(*code) => KafkaError::NoAnswer {
                bootstrap,
                waited_s: PATIENCE.as_secs(),
                why: code.to_string(),
            },
            error => KafkaError::Other { doing: bootstrap, why: error.to_string() },
        }
    }
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(PATIENCE)).operation_timeout(Some(PATIENCE))
}

fn wanted(topic: &NewTopic) -> Wanted<'_> {
    // As many replicas as the broker's default.replication.factor says.
    let new = Wanted::new(&topic.name, topic.partitions, TopicReplication::Fixed(-1));
    topic.settings.iter().fold(new, |new, (key, value)| new.set(key, value))
}

/// An error of `topics`, if there are any, which `are` so.
fn of_topics(topics: &[&str], are: &str) -> Option<KafkaError> {
    (!topics.is_empty()).then(|| KafkaError::Other {
        doing: format!("the topics {} {are}", topics.join(", ")),
        why: format!("waited {} s for it: are all brokers there?", PATIENCE.as_secs()),
    })
}

fn not_created(name: &str, code: Code) -> KafkaError {
    let why = match code {
        Code::TopicAlreadyExists => {
            "it is there already: delete it, or choose another name".to_owned()
        }
        Code::InvalidConfig => "the broker does not take its settings".to_owned(),
        code => return KafkaError::of_topic("Create", name, code),
    };
    KafkaError::Other { doing: format!("topic '{name}' cannot be made"), why }
}

fn not_deleted(name: &str, code: Code) -> KafkaError {
    let why = match code {
        Code::TopicDeletionDisabled => {
            "the brokers delete no topics: have delete.topic.enable=true set".to_owned()
        }
        code => return KafkaError::of_topic("Delete", name, code),
    };
    KafkaError::Other { doing: format!("topic '{name}' cannot be deleted"), why }
}

fn group_not_deleted(name: &str, code: Code) -> KafkaError {
    let why = match code {
        Code::GroupAuthorizationFailed => return KafkaError::group_refused("Delete", name),
        Code::NonEmptyGroup => "it still has members: end whatever reads in it".to_owned(),
        code => code.to_string(),
    };
    KafkaError::Other { doing: format!("group '{name}' cannot be deleted"), why }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nobody listens on port 1.
    #[tokio::test]
    async fn nobody_there_is_said_and_a_thread_waits_for_it() {
        let admin = Admin::at(&KafkaSettings::at("127.0.0.1:1").unwrap()).unwrap();
        let names = ["clone-1".to_owned()];
        let (listed, aborted) = tokio::join!(admin.groups("clone-"), admin.abort(&names));
        for error in [listed.unwrap_err(), aborted.unwrap_err()] {
            assert!(matches!(error, KafkaError::NoAnswer { .. }), "{error}");
            assert!(error.to_string().contains("Connection refused"), "{error}");
        }
    }

    #[test]
    fn what_is_refused_says_what_to_change() {
        for (error, says) in [
            (not_created("x", Code::TopicAlreadyExists), "topic 'x' cannot be made: it is there"),
            (not_created("x", Code::TopicAuthorizationFailed), "--operation Create --topic 'x'"),
            (not_deleted("x", Code::TopicDeletionDisabled), "delete.topic.enable=true"),
            (not_deleted("x", Code::TopicAuthorizationFailed), "--operation Delete --topic 'x'"),
            (group_not_deleted("x", Code::NonEmptyGroup), "end whatever reads in it"),
            (
                group_not_deleted("x", Code::GroupAuthorizationFailed),
                "--operation Delete --group 'x'",
            ),
        ] {
            let said = error.to_string();
            assert!(said.contains(says), "{said}");
        }
        assert!(of_topics(&[], "are gone").is_none());
        let said = of_topics(&["a", "b"], "were deleted").unwrap().to_string();
        assert!(said.starts_with("the topics a, b were deleted: "), "{said}");
    }
}
