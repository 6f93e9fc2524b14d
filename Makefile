# Every command of this repository. CI runs these targets and no others.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory
export PATH := $(PATH):$(HOME)/.cargo/bin

.DEFAULT_GOAL := help
.PHONY: help setup demo test check soak drill fuzz bench fmt

help: ## Lists these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Installs whatever the other targets need
	@scripts/setup.sh test check

demo: ## Signs for two clients with a software token; a real authorization server verifies
	@scripts/setup.sh demo
	@cargo build --release --bin hallmark
	@scripts/demo.sh

test: ## Runs every test, against real tokens and real verifiers
	@scripts/setup.sh test
	@scripts/test.sh

# Same profile and flags as `test`: what both compile is compiled once.
check: ## Checks format, lints, dependencies, documentation and scripts
	@scripts/setup.sh check
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	@scripts/virtual-yubikey.sh check
	@scripts/deny.sh
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps
	shellcheck scripts/*.sh .ci/run

soak: ## Rotates keys while servers get killed, under a fast clock: no verifier may refuse anything; all faults, 100 crashes; about 20 minutes
	@scripts/setup.sh test
	HALLMARK_SOAK=full cargo test --test e2e soak::no_verifier -- --nocapture
	HALLMARK_SOAK=full cargo test --test e2e faults::every_return_value -- --nocapture
	HALLMARK_SOAK=full cargo test --test e2e audit::crash -- --nocapture

drill: ## Destroys an HSM under load and puts another in its place, step by step; about two minutes
	@scripts/setup.sh test
	HALLMARK_SOAK=full cargo test --test e2e drill:: -- --nocapture

fuzz: ## Feeds parsers with what a machine makes up, some seconds each; the first build takes minutes
	@scripts/setup.sh fuzz
	@scripts/fuzz.sh

bench: ## Measures signatures beside the bare token, and ten thousand clients: about 20 minutes, on an idle machine
	@scripts/setup.sh test
	cargo bench --bench end_to_end
	cargo bench --bench end_to_end -- --audit --alg RS384 --alg ES256 --pairs 3
	cargo bench --bench scale

fmt: ## Formats the Rust code
	cargo fmt --all
