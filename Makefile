# Needs rustup (or cargo with the Wasm targets), Python 3, Node and a C compiler. All else is set up here, below
# .tools, target and tests/browser/node_modules; nothing outside of this folder is touched but the Rust toolchain's
# targets, and Chromium, which is installed with apt-get where there is none and that is allowed.

SHELL := /bin/bash
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help setup tools targets wasm faulty build run test screenshots bench lint deny fmt clean distclean

# Where rustup puts cargo, for shells that were opened before it was installed.
export PATH := $(CURDIR)/.tools/bin:$(if $(CARGO_HOME),$(CARGO_HOME)/bin,$(HOME)/.cargo/bin):$(PATH)
export OMF_ROOT := $(CURDIR)

TARGET := $(or $(CARGO_TARGET_DIR),target)
# On CI the lock file is not to change silently.
LOCKED := $(if $(CI),--locked)

NATIVE := -p omniflow-control-plane -p omniflow-harness -p omniflow-tests

WASM_BINDGEN := $(shell awk '/^name = "wasm-bindgen"$$/ { getline; gsub(/"/, "", $$3); print $$3 }' Cargo.lock)
ENVOY_STAMP := .tools/stamps/envoy
BROWSER_STAMP := .tools/stamps/browser
SCHEMATHESIS_STAMP := .tools/stamps/schemathesis
RUNNER_STAMP := .tools/stamps/wasm-bindgen-test-runner-$(WASM_BINDGEN)

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: tools targets $(ENVOY_STAMP) $(RUNNER_STAMP) $(SCHEMATHESIS_STAMP) $(BROWSER_STAMP) ## Install what building and testing needs (done by the others too)

tools:
	@scripts/check-tools.sh

targets: | tools
	@scripts/setup-targets.sh

$(ENVOY_STAMP): scripts/requirements.txt scripts/setup-envoy.sh | tools
	@scripts/setup-envoy.sh
	@mkdir -p $(@D) && touch $@

$(SCHEMATHESIS_STAMP): scripts/requirements-test.txt scripts/setup-schemathesis.sh | tools
	@scripts/setup-schemathesis.sh
	@mkdir -p $(@D) && touch $@

$(BROWSER_STAMP): tests/browser/package-lock.json scripts/setup-browser.sh | tools
	@scripts/setup-browser.sh
	@mkdir -p $(@D) && touch $@

$(RUNNER_STAMP): scripts/setup-wasm-runner.sh | tools
	@scripts/setup-wasm-runner.sh $(WASM_BINDGEN)
	@mkdir -p $(@D) && touch $@

wasm: tools targets
	cargo build $(LOCKED) --profile wasm --target wasm32-wasip1 -p omniflow-filter

build: wasm ## Build the filter, omf and the demo
	cargo build $(LOCKED) --release $(NATIVE)

# A filter whose VM a request can end. For the tests only; it lies apart from the one that is shipped.
faulty: tools targets
	cargo build $(LOCKED) --profile wasm --target wasm32-wasip1 -p omniflow-filter --features fault-injection \
		--target-dir $(TARGET)/fault-injection

run: build $(ENVOY_STAMP) ## Run everything on this machine until Ctrl-C (ports: see README.md)
	@exec $(TARGET)/release/omniflow-demo

# With --tests the features of all dependencies are those of the test run that follows: nothing is built twice.
test: setup wasm faulty ## Run every test
	cargo build $(LOCKED) --release --bins --tests $(NATIVE) -p omniflow-bench
	@scripts/test.sh

screenshots: build $(ENVOY_STAMP) $(BROWSER_STAMP) ## Make the pictures of pages that docs/ shows
	node tests/browser/screenshots.mjs --docs docs/screenshots

lint: tools targets ## Check formatting, clippy and, where it is installed, cargo-deny
	cargo fmt --all --check
	cargo clippy $(LOCKED) --workspace --all-targets -- -D warnings
	cargo clippy $(LOCKED) -p omniflow-filter --target wasm32-wasip1 -- -D warnings
	cargo clippy $(LOCKED) -p omniflow-policy --target wasm32-unknown-unknown --all-targets -- -D warnings
	@if command -v cargo-deny >/dev/null; then \
		cargo deny --log-level error check bans licenses sources; \
	else \
		echo 'cargo-deny is not installed, so dependencies were not checked: make deny'; \
	fi

deny: .tools/bin/cargo-deny ## Check licenses, sources and advisories of all dependencies (installs cargo-deny)
	cargo deny --log-level error check

.tools/bin/cargo-deny: | tools
	cargo install cargo-deny --locked --quiet --root .tools

bench: setup wasm ## Measure what a request costs, beside Envoy's own filters; writes docs/BENCHMARKS.md
	cargo build $(LOCKED) --profile wasm --target wasm32-wasip1 -p omniflow-empty-filter
	cargo build $(LOCKED) --release $(NATIVE) -p omniflow-bench
	@exec $(TARGET)/release/omniflow-bench $(BENCH)

fmt: ## Format the code
	cargo fmt --all

clean: ## Remove what was built, and the demo's state
	cargo clean
	rm -rf .run

distclean: clean ## Remove what was installed here as well
	rm -rf .tools tests/browser/node_modules
