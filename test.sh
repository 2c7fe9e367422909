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

# cargo comes with rustup, which also gets the toolchain that rust-toolchain.toml names.
command -v cargo >/dev/null || {
  echo "Rust is missing: install rustup first" >&2
  exit 1
}
if ! command -v cc >/dev/null; then
  step "A C compiler, for SQLite"
  if ! command -v apt-get >/dev/null || [ "$(id -u)" != 0 ]; then
    echo "a C compiler is missing: install gcc, or run this as root on Debian" >&2
    exit 1
  fi
  apt-get update -qq
  apt-get install -y -qq gcc libc6-dev
fi

deny_version=0.20.2
tools=target/tools
if ! "$tools/bin/cargo-deny" --version 2>/dev/null | grep -qx "cargo-deny $deny_version"; then
  step "cargo-deny $deny_version"
  cargo install --locked --quiet --root "$tools" cargo-deny@"$deny_version"
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

if $long; then
  step "Tests that take long"
  KHAOS_LIVES=20000 cargo test --locked --release -p khaos-twin --test invariants
fi
