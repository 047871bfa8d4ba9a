//! The five topics: creating them as they must be, and telling where they are otherwise.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use bursar_schemas::position::Topic;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::config::FromClientConfigAndContext as _;
use rdkafka::error::RDKafkaErrorCode;

use super::context::Quiet;
use super::{KafkaSettings, KafkaSetupError, all_topics, describe, generation};

/// How long a topic just created may take to be known to the brokers, its settings included.
const SETTLING: Duration = Duration::from_secs(30);
/// The same for a topic that was there: another process may have created it a moment ago.
const SETTLED: Duration = Duration::from_secs(5);

/// How the topics shall be.
#[derive(Debug, Clone)]
pub struct TopicPlan {
    /// Partitions of each topic; `policy` always has one.
    pub partitions: u32,
    /// Copies of each partition.
    pub replication: u16,
    /// Copies that must have a record before it is acknowledged.
    pub min_insync: u16,
    /// How long records are kept, by topic; for ever where none is given.
    pub retention: BTreeMap<Topic, Duration>,
    /// Longest record in bytes.
    pub max_message_bytes: usize,
}

impl TopicPlan {
    /// Three copies, two of them before a record counts, everything kept for ever.
    #[must_use]
    pub const fn new(partitions: u32) -> Self {
        Self {
            partitions,
            replication: 3,
            min_insync: 2,
            retention: BTreeMap::new(),
            max_message_bytes: 1 << 20,
        }
    }

    fn partitions_of(&self, topic: Topic) -> u32 {
        if topic == Topic::Policy { 1 } else { self.partitions }
    }

    /// The settings of a topic.
    fn settings(&self, topic: Topic) -> Vec<(&'static str, String)> {
        let retention =
            self.retention.get(&topic).map_or_else(|| "-1".to_owned(), |kept| kept.as_millis().to_string());
        vec![
            ("cleanup.policy", "delete".to_owned()),
            ("retention.ms", retention),
            ("retention.bytes", "-1".to_owned()),
            ("min.insync.replicas", self.min_insync.to_string()),
            ("max.message.bytes", self.max_message_bytes.to_string()),
            ("unclean.leader.election.enable", "false".to_owned()),
            ("message.timestamp.type", "CreateTime".to_owned()),
            ("compression.type", "producer".to_owned()),
        ]
    }
}

/// A topic that is otherwise than planned; it is left as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Which topic.
    pub topic: Topic,
    /// Which setting, or `replication`.
    pub setting: String,
    /// How it is.
    pub found: String,
    /// How it was planned.
    pub wanted: String,
}

/// What was found and done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TopicReport {
    /// Topics that were created.
    pub created: Vec<Topic>,
    /// Where topics are otherwise than planned.
    pub differences: Vec<Difference>,
    /// Why hard budgets must not rest on these topics; empty when they may. A development set-up may override.
    pub unfit_for_hard_budgets: Vec<String>,
}

/// Creates the topics that are missing, and compares all with the plan.
///
/// # Errors
/// When Kafka cannot be reached, a topic cannot be created, has another number of partitions, or no generation.
pub async fn ensure_topics(
    settings: &KafkaSettings,
    plan: &TopicPlan,
) -> Result<TopicReport, KafkaSetupError> {
    let admin = admin(settings)?;
    let mut report = TopicReport::default();
    refuse_a_hole(&admin, settings).await?;
    for topic in all_topics() {
        if create(&admin, settings, plan, topic).await? {
            report.created.push(topic);
        }
    }
    for topic in all_topics() {
        let name = settings.topic(topic);
        let patience = if report.created.contains(&topic) { SETTLING } else { SETTLED };
        let found = settle(&admin, settings, &name, patience).await?;
        let wanted = plan.partitions_of(topic);
        if found.partitions != wanted {
            return Err(KafkaSetupError::Partitions { topic: name, found: found.partitions, wanted });
        }
        compare(topic, plan, &found, &mut report);
    }
    Ok(report)
}

/// A topic that is missing beside others that hold records was deleted. Making it anew would forget what it said: of
/// `limits`, how much was granted.
async fn refuse_a_hole(admin: &AdminClient<Quiet>, settings: &KafkaSettings) -> Result<(), KafkaSetupError> {
    let deadline = Instant::now() + SETTLED;
    loop {
        let census = census(admin, settings)?;
        let Some(topic) = census.missing.first() else { return Ok(()) };
        let Some(holds) = holding(admin, settings, &census.there)? else { return Ok(()) };
        // Another process may be creating them at this moment, and brokers learn of it one after the other.
        if Instant::now() >= deadline {
            return Err(KafkaSetupError::Missing { topic: settings.topic(*topic), holds });
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Which topics the cluster has and which it has not.
#[derive(Debug, Default)]
struct Census {
    /// With the number of their partitions.
    there: Vec<(Topic, i32)>,
    missing: Vec<Topic>,
}

fn census(admin: &AdminClient<Quiet>, settings: &KafkaSettings) -> Result<Census, KafkaSetupError> {
    let metadata = admin
        .inner()
        .fetch_metadata(None, settings.request_timeout)
        .map_err(|error| KafkaSetupError::Unavailable(describe(&error)))?;
    let mut census = Census::default();
    for topic in all_topics() {
        let name = settings.topic(topic);
        match metadata.topics().iter().find(|found| found.name() == name) {
            Some(found) if found.error().is_none() => {
                census.there.push((topic, i32::try_from(found.partitions().len()).unwrap_or(0)));
            }
            // Whatever is wrong with one that is listed, it is not gone.
            Some(_) => {}
            None => census.missing.push(topic),
        }
    }
    Ok(census)
}

/// The name of one of these topics that records were written to.
fn holding(
    admin: &AdminClient<Quiet>,
    settings: &KafkaSettings,
    topics: &[(Topic, i32)],
) -> Result<Option<String>, KafkaSetupError> {
    for (topic, partitions) in topics {
        let name = settings.topic(*topic);
        for partition in 0..*partitions {
            let (_, end) = admin
                .inner()
                .fetch_watermarks(&name, partition, settings.request_timeout)
                .map_err(|error| KafkaSetupError::Unavailable(format!("{name}: {}", describe(&error))))?;
            if end > 0 {
                return Ok(Some(name));
            }
        }
    }
    Ok(None)
}

pub(super) fn admin(settings: &KafkaSettings) -> Result<AdminClient<Quiet>, KafkaSetupError> {
    AdminClient::from_config_and_context(&settings.common(), Quiet)
        .map_err(|error| KafkaSetupError::Client(describe(&error)))
}

fn options(settings: &KafkaSettings) -> AdminOptions {
    AdminOptions::new()
        .request_timeout(Some(settings.request_timeout))
        .operation_timeout(Some(settings.request_timeout))
}

/// True when the topic was not there.
async fn create(
    admin: &AdminClient<Quiet>,
    settings: &KafkaSettings,
    plan: &TopicPlan,
    topic: Topic,
) -> Result<bool, KafkaSetupError> {
    let name = settings.topic(topic);
    let partitions = i32::try_from(plan.partitions_of(topic)).unwrap_or(i32::MAX);
    let replication = TopicReplication::Fixed(i32::from(plan.replication));
    let mut values = plan.settings(topic);
    values.extend(generation::generation_settings(generation::draw()?));
    let new = values
        .iter()
        .fold(NewTopic::new(&name, partitions, replication), |new, (setting, value)| new.set(setting, value));
    let outcome = admin
        .create_topics([&new], &options(settings))
        .await
        .map_err(|error| KafkaSetupError::Unavailable(describe(&error)))?;
    match outcome.into_iter().next() {
        Some(Ok(_)) => Ok(true),
        Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => Ok(false),
        // Whoever may not create topics may still use those that are there, as `settle` finds out.
        Some(Err((
            _,
            RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::ClusterAuthorizationFailed,
        ))) => Ok(false),
        // A cluster that is starting, or electing, answers so for a while.
        Some(Err((
            topic,
            code @ (RDKafkaErrorCode::RequestTimedOut
            | RDKafkaErrorCode::NotController
            | RDKafkaErrorCode::BrokerNotAvailable
            | RDKafkaErrorCode::LeaderNotAvailable),
        ))) => Err(KafkaSetupError::Unavailable(format!("{topic}: {code}"))),
        Some(Err((topic, code))) => Err(KafkaSetupError::Create { topic, detail: code.to_string() }),
        None => Err(KafkaSetupError::Create { topic: name, detail: "no answer".to_owned() }),
    }
}

/// How a topic is.
pub(super) struct Found {
    pub(super) partitions: u32,
    pub(super) replication: usize,
    pub(super) settings: HashMap<String, String>,
}

/// Looks at a topic until all of it is known: a broker shows a topic before the topic's settings.
async fn settle(
    admin: &AdminClient<Quiet>,
    settings: &KafkaSettings,
    name: &str,
    patience: Duration,
) -> Result<Found, KafkaSetupError> {
    let deadline = Instant::now() + patience;
    loop {
        let error = match look(admin, settings, name).await {
            Ok(found) if generation::of(&found.settings).is_some() => return Ok(found),
            Ok(_) => KafkaSetupError::NoGeneration(name.to_owned()),
            Err(error) => error,
        };
        if Instant::now() >= deadline {
            return Err(error);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

pub(super) async fn look(
    admin: &AdminClient<Quiet>,
    settings: &KafkaSettings,
    name: &str,
) -> Result<Found, KafkaSetupError> {
    let unavailable = |detail: String| KafkaSetupError::Unavailable(format!("{name}: {detail}"));
    let described = admin
        .describe_configs([&ResourceSpecifier::Topic(name)], &options(settings))
        .await
        .map_err(|error| unavailable(describe(&error)))?;
    let resource = described.into_iter().next().ok_or_else(|| unavailable("no answer".to_owned()))?;
    let resource = resource.map_err(|code| unavailable(code.to_string()))?;
    let values = resource.entries.into_iter().filter_map(|entry| Some((entry.name, entry.value?))).collect();
    let metadata = admin
        .inner()
        .fetch_metadata(Some(name), settings.request_timeout)
        .map_err(|error| unavailable(describe(&error)))?;
    let topic = metadata
        .topics()
        .iter()
        .find(|topic| topic.name() == name && !topic.partitions().is_empty())
        .ok_or_else(|| unavailable("its partitions are not known".to_owned()))?;
    if topic.error().is_some() {
        return Err(unavailable("its partitions are not known".to_owned()));
    }
    Ok(Found {
        partitions: u32::try_from(topic.partitions().len()).unwrap_or(u32::MAX),
        replication: topic.partitions().iter().map(|one| one.replicas().len()).min().unwrap_or(0),
        settings: values,
    })
}

fn compare(topic: Topic, plan: &TopicPlan, found: &Found, report: &mut TopicReport) {
    let replication = ("replication", plan.replication.to_string());
    for (setting, wanted) in plan.settings(topic).into_iter().chain([replication]) {
        let value = if setting == "replication" {
            found.replication.to_string()
        } else {
            found.settings.get(setting).cloned().unwrap_or_default()
        };
        if value != wanted {
            let setting = setting.to_owned();
            report.differences.push(Difference { topic, setting, found: value, wanted });
        }
    }
    if matches!(topic, Topic::Spend | Topic::Limits) {
        let number = |name: &str| found.settings.get(name).and_then(|value| value.parse::<i64>().ok());
        if found.replication < 3 {
            let copies = found.replication;
            report
                .unfit_for_hard_budgets
                .push(format!("{topic} has replication {copies}, at least 3 needed"));
        }
        if number("min.insync.replicas").is_none_or(|copies| copies < 2) {
            report.unfit_for_hard_budgets.push(format!("{topic} has min.insync.replicas below 2"));
        }
        if found.settings.get("unclean.leader.election.enable").map(String::as_str) != Some("false") {
            report.unfit_for_hard_budgets.push(format!("{topic} allows unclean leader elections"));
        }
        if found.settings.get("cleanup.policy").map(String::as_str) != Some("delete") {
            report.unfit_for_hard_budgets.push(format!("{topic} is compacted"));
        }
    }
}
