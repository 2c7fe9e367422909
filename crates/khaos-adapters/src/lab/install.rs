//! Install: the jars of Flink and Kafka and the lab's job, fetched and built once by Maven and kept in a cache.
//!
//! Whatever is in the cache under its own name is complete: Maven works in a folder beside it, which is
//! renamed when it is done. A name contains the hash of what it was made from.

use std::fs::{File, TryLockError};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};
use sha2::{Digest, Sha256};
use tokio::time::{Duration, Instant, sleep_until};

use super::LabConfig;
use super::error::{LabError, at};
use super::version::{FlinkVersion, KAFKA_LOG4J, KAFKA_VERSION};

/// The oldest Java that both Flinks, Kafka and the lab's job run on.
pub(super) const OLDEST_JAVA: u32 = 17;
/// What a Flink, a Kafka, a job and a lab's run need, MB.
const NEEDED_MB: u64 = 400;

/// The lists of jars, and the lab's job: in the binary, so that it works without its sources.
const FLINK_POM: &str = include_str!("../../../../lab/flink/pom.xml");
const KAFKA_POM: &str = include_str!("../../../../lab/kafka/pom.xml");
macro_rules! job_files {
    ($($path:literal),* $(,)?) => {
        [$(($path, include_str!(concat!("../../../../lab/jobs/", $path)))),*]
    };
}
const JOBS: &[(&str, &str)] = &job_files![
    "pom.xml",
    "kafka/pom.xml",
    "kafka/src/main/java/khaos/lab/AdEvent.java",
    "kafka/src/main/java/khaos/lab/AdEventFormat.java",
    "kafka/src/main/java/khaos/lab/CampaignOfAd.java",
    "kafka/src/main/java/khaos/lab/CampaignViews.java",
    "kafka/src/main/java/khaos/lab/Campaigns.java",
    "kafka/src/main/java/khaos/lab/Count.java",
    "kafka/src/main/java/khaos/lab/EventFormat.java",
    "kafka/src/main/java/khaos/lab/EventReader.java",
    "kafka/src/main/java/khaos/lab/EventsByOffset.java",
    "kafka/src/main/java/khaos/lab/Fix.java",
    "kafka/src/main/java/khaos/lab/Geo.java",
    "kafka/src/main/java/khaos/lab/IotVehiclesJob.java",
    "kafka/src/main/java/khaos/lab/JsonFields.java",
    "kafka/src/main/java/khaos/lab/KafkaJob.java",
    "kafka/src/main/java/khaos/lab/KafkaJobOptions.java",
    "kafka/src/main/java/khaos/lab/Paced.java",
    "kafka/src/main/java/khaos/lab/Pipeline.java",
    "kafka/src/main/java/khaos/lab/Punctual.java",
    "kafka/src/main/java/khaos/lab/Punctuality.java",
    "kafka/src/main/java/khaos/lab/Result.java",
    "kafka/src/main/java/khaos/lab/ResultWriter.java",
    "kafka/src/main/java/khaos/lab/SpeedInWindow.java",
    "kafka/src/main/java/khaos/lab/TimedEvent.java",
    "kafka/src/main/java/khaos/lab/Track.java",
    "kafka/src/main/java/khaos/lab/TrackOfVehicle.java",
    "kafka/src/main/java/khaos/lab/Vehicle.java",
    "kafka/src/main/java/khaos/lab/VehicleFormat.java",
    "kafka/src/main/java/khaos/lab/VehicleSpeed.java",
    "kafka/src/main/java/khaos/lab/ViewsInWindow.java",
    "kafka/src/main/java/khaos/lab/YsbJob.java",
    "paced/pom.xml",
    "paced/src/main/java/khaos/lab/Arguments.java",
    "paced/src/main/java/khaos/lab/CountingSink.java",
    "paced/src/main/java/khaos/lab/Delivery.java",
    "paced/src/main/java/khaos/lab/Event.java",
    "paced/src/main/java/khaos/lab/JobOptions.java",
    "paced/src/main/java/khaos/lab/KeySlots.java",
    "paced/src/main/java/khaos/lab/PacedEnumerator.java",
    "paced/src/main/java/khaos/lab/PacedJob.java",
    "paced/src/main/java/khaos/lab/PacedReader.java",
    "paced/src/main/java/khaos/lab/PacedSource.java",
    "paced/src/main/java/khaos/lab/PacedSplit.java",
    "paced/src/main/java/khaos/lab/PacedSplitsSerializer.java",
    "paced/src/main/java/khaos/lab/PacedWork.java",
    "paced/src/main/java/khaos/lab/Pacer.java",
    "paced/src/main/java/khaos/lab/RateSchedule.java",
    "paced/src/main/java/khaos/lab/Start.java",
];

/// The module that runs on every Flink, and the one that reads Kafka.
const PACED: &str = "paced";
const KAFKA: &str = "kafka";

/// What a lab is started from. What it does not have need not be there.
#[derive(Debug)]
pub(super) struct Installed {
    pub(super) java: PathBuf,
    /// The folder of Flink's jars.
    pub(super) flink: PathBuf,
    /// The folder of Kafka's.
    pub(super) kafka: PathBuf,
    pub(super) job_jar: PathBuf,
}

/// Finds Java, and whatever the lab needs and is not yet in its cache, gets it.
pub(super) async fn install(
    config: &LabConfig,
    report: &impl Fn(&str),
) -> Result<Installed, LabError> {
    let java = java()?;
    let cache = &config.cache;
    at(cache, "--cache", std::fs::create_dir_all(cache))?;
    let cache = at(cache, "--cache", cache.canonicalize())?;
    readable_by_java(&cache, "--cache")?;
    let (flink, kafka) = (Jars::of_flink(config.version), Jars::of_kafka());
    let installed = Installed {
        java,
        flink: flink.folder(&cache),
        kafka: kafka.folder(&cache),
        job_jar: job_jar(&cache, PACED),
    };
    let no_flink = config.has_flink() && !installed.flink.exists();
    let no_kafka = config.kafka.is_some() && !installed.kafka.exists();
    let no_job = config.has_flink() && !installed.job_jar.exists();
    if no_flink || no_kafka || no_job {
        enough_space(&cache, "--cache")?;
        let _alone = alone(&cache, report).await?;
        // Another khaos may have got them meanwhile.
        if no_flink && !installed.flink.exists() {
            flink.get(&cache, report).await?;
        }
        if no_kafka && !installed.kafka.exists() {
            kafka.get(&cache, report).await?;
        }
        if no_job && !installed.job_jar.exists() {
            build_job(PACED, &cache, report).await?;
        }
    }
    Ok(installed)
}

/// The jars of a program, as a list for Maven.
struct Jars {
    /// Name and version, as in `Flink 2.3.0`.
    what: String,
    about_mb: u32,
    pom: &'static str,
    /// Properties of the list.
    versions: Vec<(&'static str, &'static str)>,
}

impl Jars {
    fn of_flink(version: FlinkVersion) -> Self {
        let versions = vec![
            ("flink.version", version.flink),
            ("reporter.version", version.reporter),
            ("log4j.version", version.log4j),
        ];
        Self { what: format!("Flink {version}"), about_mb: 85, pom: FLINK_POM, versions }
    }

    fn of_kafka() -> Self {
        let versions = vec![("kafka.version", KAFKA_VERSION), ("log4j.version", KAFKA_LOG4J)];
        Self { what: format!("Kafka {KAFKA_VERSION}"), about_mb: 120, pom: KAFKA_POM, versions }
    }

    /// Where they are in the cache, complete as soon as it is there.
    fn folder(&self, cache: &Path) -> PathBuf {
        let versions: Vec<&str> = self.versions.iter().map(|(_, version)| *version).collect();
        let key = key([("versions", versions.join(" ").as_str()), ("pom.xml", self.pom)]);
        cache.join(format!("{}-{key}", self.what.to_lowercase().replace(' ', "-")))
    }

    async fn get(&self, cache: &Path, report: &impl Fn(&str)) -> Result<(), LabError> {
        let Self { what, about_mb, .. } = self;
        let maven = maven(what)?;
        report(&format!("Getting {what} with Maven, about {about_mb} MB, once"));
        let folder = unfinished(cache)?;
        let (pom, jars) = (folder.path().join("pom.xml"), folder.path().join("jars"));
        at(&pom, "--cache", std::fs::write(&pom, self.pom))?;
        let mut command = Command::new(maven);
        command
            .arg("dependency:copy-dependencies")
            .arg(format!("-DoutputDirectory={}", jars.display()))
            .args(self.versions.iter().map(|(name, version)| format!("-D{name}={version}")));
        run(command, folder.path(), what).await?;
        let target = self.folder(cache);
        at(&target, "--cache", std::fs::rename(&jars, &target))
    }
}

/// Refuses a path that Java's class path, Flink's lists of folders or a URI would take apart.
pub(super) fn readable_by_java(path: &Path, flag: &'static str) -> Result<(), LabError> {
    let text = path.to_string_lossy();
    let misread = |c: char| c.is_control() || "\u{fffd}:;,|\"'\\#%?*$".contains(c);
    match text.chars().find(|c| misread(*c)) {
        Some(character) => Err(LabError::Path { path: path.to_owned(), character, flag }),
        None => Ok(()),
    }
}

/// Refuses a place without room.
pub(super) fn enough_space(path: &Path, flag: &'static str) -> Result<(), LabError> {
    let stat = at(path, flag, rustix::fs::statvfs(path).map_err(Into::into))?;
    let free_mb = stat.f_bavail.saturating_mul(stat.f_frsize) / 1_000_000;
    if free_mb < NEEDED_MB {
        return Err(LabError::Disk { path: path.to_owned(), free_mb, needed_mb: NEEDED_MB, flag });
    }
    Ok(())
}

/// The Java of `JAVA_HOME`, or else the first in `PATH`; one that is new enough.
fn java() -> Result<PathBuf, LabError> {
    let java = match std::env::var_os("JAVA_HOME").filter(|home| !home.is_empty()) {
        Some(home) => {
            let java = Path::new(&home).join("bin/java");
            let found = format!("JAVA_HOME is {}, where there is no bin/java", home.display());
            if java.is_file() { java } else { return Err(LabError::Java { found }) }
        }
        None => {
            in_path("java").ok_or_else(|| LabError::Java { found: "no java in PATH".to_owned() })?
        }
    };
    let output = Command::new(&java).arg("-version").stdin(Stdio::null()).output();
    let output = output.map_err(|source| LabError::Spawn { program: java.clone(), source })?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let java_is = |what: String| LabError::Java { found: format!("{} {what}", java.display()) };
    match major(&said) {
        Some(version) if version >= OLDEST_JAVA => Ok(java),
        Some(version) => Err(java_is(format!("is version {version}"))),
        None => {
            let first = said.lines().next().unwrap_or("nothing").trim();
            Err(java_is(format!("does not tell its version, it says: {first}")))
        }
    }
}

/// The feature version in what `java -version` says: 17 of `17.0.15`, 8 of `1.8.0_402`.
fn major(said: &str) -> Option<u32> {
    let version = said.split_once("version \"")?.1;
    let version = version.strip_prefix("1.").unwrap_or(version);
    version.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

fn in_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// The first 12 digits of the hash of what something is made from.
fn key<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut hash = Sha256::new();
    for (name, text) in files {
        for part in [name, text] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
    }
    hash.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

const UNFINISHED: &str = ".unfinished-";

/// Waits until no other khaos fills the cache, and clears what a killed one left there.
async fn alone(cache: &Path, report: &impl Fn(&str)) -> Result<File, LabError> {
    let path = cache.join("lock");
    let lock = at(&path, "--cache", File::create(&path))?;
    let mut told = false;
    loop {
        match lock.try_lock() {
            Ok(()) => break,
            Err(TryLockError::Error(source)) => return at(&path, "--cache", Err(source)),
            Err(TryLockError::WouldBlock) if told => {}
            Err(TryLockError::WouldBlock) => {
                report("Waiting for another khaos that is filling the cache");
                told = true;
            }
        }
        sleep_until(Instant::now() + Duration::from_millis(200)).await;
    }
    for entry in at(cache, "--cache", std::fs::read_dir(cache))?.flatten() {
        if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
            at(&entry.path(), "--cache", std::fs::remove_dir_all(entry.path()))?;
        }
    }
    Ok(lock)
}

/// The jar of the jobs that read Kafka, built in `cache` where it is not there yet. Not every lab needs it.
pub(super) async fn kafka_job(cache: &Path, report: &impl Fn(&str)) -> Result<PathBuf, LabError> {
    let cache = at(cache, "--cache", cache.canonicalize())?;
    let jar = job_jar(&cache, KAFKA);
    if !jar.exists() {
        enough_space(&cache, "--cache")?;
        let _alone = alone(&cache, report).await?;
        // Another khaos may have built it meanwhile.
        if !jar.exists() {
            build_job(KAFKA, &cache, report).await?;
        }
    }
    Ok(jar)
}

/// Where the jar of `module` is in the cache.
fn job_jar(cache: &Path, module: &str) -> PathBuf {
    cache.join(format!("{module}-job-{}.jar", key(JOBS.iter().copied())))
}

async fn build_job(module: &str, cache: &Path, report: &impl Fn(&str)) -> Result<(), LabError> {
    let what = format!("the lab's {module} job");
    let maven = maven(&what)?;
    report(&format!("Building {what} with Maven, once"));
    let folder = unfinished(cache)?;
    for (name, text) in JOBS {
        let path = folder.path().join(name);
        let parent = path.parent().unwrap_or(folder.path());
        at(&path, "--cache", std::fs::create_dir_all(parent))?;
        at(&path, "--cache", std::fs::write(&path, text))?;
    }
    let mut command = Command::new(maven);
    // The jobs' tests belong to whoever changes them: `./test.sh --long`.
    command.args(["-Dmaven.test.skip=true", "-pl", module, "-am", "package"]);
    run(command, folder.path(), &what).await?;
    let jar = folder.path().join(format!("{module}/target/{module}-job.jar"));
    let target = job_jar(cache, module);
    at(&target, "--cache", std::fs::rename(&jar, &target))
}

fn maven(what: &str) -> Result<PathBuf, LabError> {
    in_path("mvn").ok_or_else(|| LabError::NoMaven { what: what.to_owned() })
}

fn unfinished(cache: &Path) -> Result<tempfile::TempDir, LabError> {
    at(cache, "--cache", tempfile::Builder::new().prefix(UNFINISHED).tempdir_in(cache))
}

/// Runs Maven on the `pom.xml` in `folder`.
async fn run(mut command: Command, folder: &Path, what: &str) -> Result<(), LabError> {
    let log = folder.join("maven.log");
    let out = at(&log, "--cache", File::create(&log))?;
    let err = at(&log, "--cache", out.try_clone())?;
    command.args(["-B", "-ntp", "-q", "-f"]).arg(folder.join("pom.xml")).current_dir(folder);
    command.stdin(Stdio::null()).stdout(out).stderr(err).process_group(0);
    let program = PathBuf::from(command.get_program());
    let child = command.spawn().map_err(|source| LabError::Spawn { program, source })?;
    let mut maven = Maven(child);
    loop {
        if let Some(status) = at(&log, "--cache", maven.0.try_wait())? {
            if status.success() {
                return Ok(());
            }
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            let why = last_words(&said).unwrap_or_else(|| status.to_string());
            return Err(LabError::Maven { what: what.to_owned(), why });
        }
        sleep_until(Instant::now() + Duration::from_millis(50)).await;
    }
}

/// A Maven that ends, with what it started, when nobody waits for it any more.
struct Maven(Child);

impl Drop for Maven {
    fn drop(&mut self) {
        // Only while it has not been waited for: until then nobody else can have its pid.
        if let (Ok(None), Some(group)) = (self.0.try_wait(), Pid::from_raw(self.0.id() as i32)) {
            let _ = kill_process_group(group, Signal::KILL);
            let _ = self.0.wait();
        }
    }
}

/// What Maven said that a person can use: the first errors, without its own advertisement.
fn last_words(said: &str) -> Option<String> {
    let noise = ["To see the full", "Re-run Maven", "For more information", "[Help", "-> [Help"];
    let words: Vec<&str> = said
        .lines()
        .filter_map(|line| line.strip_prefix("[ERROR]"))
        .map(str::trim)
        .filter(|line| !line.is_empty() && !noise.iter().any(|noise| line.starts_with(noise)))
        .take(3)
        .collect();
    let any = said.lines().map(str::trim).rfind(|line| !line.is_empty());
    if words.is_empty() { any.map(str::to_owned) } else { Some(words.join(" | ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file that is not in the list would be missing from the jar.
    #[test]
    fn every_source_of_the_jobs_is_in_the_binary() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../lab/jobs");
        let mut there = vec!["pom.xml".to_owned()];
        for module in ["kafka", "paced"] {
            let java = format!("{module}/src/main/java/khaos/lab");
            let sources = std::fs::read_dir(folder.join(&java)).unwrap();
            let name = |source: std::fs::DirEntry| source.file_name().into_string().unwrap();
            there.push(format!("{module}/pom.xml"));
            there.extend(sources.map(|source| format!("{java}/{}", name(source.unwrap()))));
            let all = std::fs::read_dir(folder.join(module).join("src/main")).unwrap().count();
            assert_eq!(all, 1, "there are no resources to forget");
        }
        let mut listed: Vec<&str> = JOBS.iter().map(|(name, _)| *name).collect();
        listed.sort_unstable();
        there.sort();
        assert_eq!(listed, there);
    }

    #[test]
    fn java_tells_its_version() {
        for (said, version) in [
            ("openjdk version \"17.0.15\" 2025-04-15\nOpenJDK Runtime", Some(17)),
            ("java version \"1.8.0_402\"\n", Some(8)),
            ("Picked up JAVA_TOOL_OPTIONS: -Da=b\nopenjdk version \"21\" 2023\n", Some(21)),
            ("openjdk version \"25-ea\"", Some(25)),
            ("The operation couldn't be completed.", None),
            ("version \"\"", None),
        ] {
            assert_eq!(major(said), version, "{said}");
        }
    }

    #[test]
    fn a_place_without_room_is_refused() {
        let error = enough_space(Path::new("/proc"), "--cache").unwrap_err().to_string();
        assert!(error.starts_with("/proc: 0 MB are free, the lab needs 400"), "{error}");
        assert!(error.contains("--cache"), "{error}");
    }

    #[test]
    fn a_path_that_java_would_take_apart_is_refused() {
        readable_by_java(Path::new("/home/a b/ä-1.0_x"), "--dir").unwrap();
        for path in ["/a:b", "/a,b", "/a%20b", "/a\nb", "/a\"b"] {
            let error = readable_by_java(Path::new(path), "--dir").unwrap_err().to_string();
            assert!(error.contains("--dir"), "{error}");
        }
    }

    #[test]
    fn mavens_last_words_are_its_errors() {
        let said = "[WARNING] old\n[ERROR] Failed to execute goal: no route to host -> [Help 1]\n\
                    [ERROR] \n[ERROR] Re-run Maven using the -X switch\n";
        let words = last_words(said).unwrap();
        assert_eq!(words, "Failed to execute goal: no route to host -> [Help 1]");
        assert_eq!(last_words("mvn: broken\n\n").as_deref(), Some("mvn: broken"));
        assert_eq!(last_words(""), None);
    }
}
