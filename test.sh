#!/usr/bin/env bash
# Sets up what is missing, then formatting, lints, dependency rules and all tests.
#   ./test.sh          what every change has to pass
#   ./test.sh --long   also what takes long
set -euo pipefail
cd "$(dirname "$0")"

long=false
case "${1:-}" in
  "") ;;
  --long) long=true ;;
  *) echo "usage: ./test.sh [--long]" >&2; exit 2 ;;
esac

step() { printf '\n== %s\n' "$*"; }

# have COMMAND PACKAGE...: installs the packages where the command is missing.
have() {
  command -v "$1" >/dev/null && return
  step "Installing $1"
  if ! command -v apt-get >/dev/null || [ "$(id -u)" != 0 ]; then
    echo "$1 is missing: install it, or run this as root on Debian, where it is in: ${*:2}" >&2
    exit 1
  fi
  apt-get update -qq
  apt-get install -y -qq "${@:2}"
}

# rustup gets the toolchain that rust-toolchain.toml names; SQLite and Kafka's client are compiled.
have cargo rustup
have cc gcc libc6-dev
have c++ g++
have make make

deny_version=0.20.2
tools=target/tools
if ! "$tools/bin/cargo-deny" --version 2>/dev/null | grep -qx "cargo-deny $deny_version"; then
  step "cargo-deny $deny_version"
  # It runs for a second: optimizing it would take minutes.
  CARGO_PROFILE_DEV_DEBUG=0 \
    cargo install --debug --locked --quiet --root "$tools" cargo-deny@"$deny_version"
fi

step "Formatting"
cargo fmt --all --check

step "Lints"
cargo clippy --locked --workspace --all-targets -- -D warnings

step "Licences, duplicates and sources of dependencies"
"$tools/bin/cargo-deny" --locked check licenses bans sources

step "Documentation"
RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps --quiet

step "Tests"
cargo test --locked --workspace

step "On a real Flink and a real Kafka"
have mvn maven
have javac openjdk-17-jdk-headless
have pgrep procps
have prometheus prometheus
mvn -B -ntp -f lab/jobs/pom.xml verify
# Folders that a test leaves stand out in a folder of their own.
TMPDIR=$(mktemp -d)
export TMPDIR
# Tests of both Flinks that take minutes: the older one has its turn with --long. So have clones that read nothing:
# those that read Kafka keep the same contract, below. And visibility, which a busy machine cannot be asked for.
older=(visibility_is_interval_and_duration clones_on_flink flink_1_20_keeps_the_contract khaos_run_sees_a_job_on_flink_1_20 khaos_holds_and_goes_on_with_flink_1_20 prometheus_remembers_flink_1_20
  deliveries_of_flink_1_20_are_exactly_once flink_1_20_is_redeployed sources_of_flink_1_20
  khaos_run_ends_a_redeploy_that_was_left_unfinished_on_flink_1_20 a_dead_khaos_leaves_flink_1_20)
# Labs on ports of their own wait more than they work: three at a time. The whole workspace, because crates that
# are built by themselves have other features, and all would be built once more.
cargo test --locked --workspace -- --ignored --test-threads=3 \
  --skip half_an_hour --skip failures_hit --skip dead_times_by_heartbeats --skip clones_that_read_kafka \
  "${older[@]/#/--skip=}"
# By themselves: on a machine that starts three labs a checkpoint completes before the signal has come, and clones
# beside a job, a broker and their replays leave too little for whoever else tests.
cargo test --locked --workspace --test flink -- --ignored --test-threads=1 failures_hit_checkpoints_that_are_half \
  clones_that_read_kafka --skip twenty

if $long; then
  step "Twenty thousand lives instead of a thousand"
  KHAOS_LIVES=20000 cargo test --locked --release -p khaos-twin --test invariants

  step "Half an hour of driving, twenty failures, dead times by heartbeats"
  cargo test --locked -p khaos --test flink -- --ignored --nocapture --test-threads=1 \
    half_an_hour twenty_failures dead_times_by_heartbeats

  step "The older Flink, and clones that read nothing"
  cargo test --locked --workspace -- --ignored --test-threads=2 "${older[@]}"

  step "Five million events through a real Kafka, recorded through kills and replayed"
  KHAOS_EVENTS=5000000 cargo test --locked -p khaos --test kafka -- --ignored --nocapture record::what_is

  step "The whole loop on a real Flink"
  cargo run --locked -p khaos -- lab run --dir "$TMPDIR/lab" --cache target/lab-cache --out target/lab-run
fi

step "What the tests left"
left=0
if pgrep -af -- "-Dkhaos[.]lab=|$PWD/target/[a-z]*/khaos "; then left=1; fi
# Ports of the labs in the tests, listening (0A).
while read -r port; do
  if ((16#$port >= 22800 && 16#$port < 29000)); then echo "port $((16#$port))"; left=1; fi
done < <(awk '$4 == "0A" { print substr($2, length($2) - 3) }' /proc/net/tcp /proc/net/tcp6)
if ! rmdir "$TMPDIR"; then ls -A "$TMPDIR"; left=1; fi
if ((left)); then echo "a test left this behind: process, port or folder" >&2; exit 1; fi
echo "no process, no port, no folder"
