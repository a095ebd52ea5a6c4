# Needs rustup (or cargo with the Wasm targets), Python 3, Node and a C compiler. All else is set up here, below
# .tools, target and tests/browser/node_modules; nothing outside of this folder is touched but the Rust toolchain's
# targets, and Chromium, which is installed with apt-get where there is none and that is allowed.

SHELL := /bin/bash
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help setup tools targets wasm faulty build run test screenshots bench conformance fuzz faults soak lint deny \
	sbom fmt clean distclean

# Where rustup puts cargo, for shells that were opened before it was installed.
export PATH := $(CURDIR)/.tools/bin:$(if $(CARGO_HOME),$(CARGO_HOME)/bin,$(HOME)/.cargo/bin):$(PATH)
export OMF_ROOT := $(CURDIR)

TARGET := $(or $(CARGO_TARGET_DIR),target)
# On CI the lock file is not to change silently.
LOCKED := $(if $(CI),--locked)

# What runs on this machine rather than in Envoy. The policy and the filter have test runs of their own.
NATIVE := --workspace --exclude omniflow-policy --exclude omniflow-filter --exclude omniflow-empty-filter \
	--exclude omniflow-probe-filter

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
	cargo build $(LOCKED) --release --bins --tests $(NATIVE)
	@scripts/test.sh

screenshots: build $(ENVOY_STAMP) $(BROWSER_STAMP) ## Make the pictures of pages that docs/ shows
	node tests/browser/screenshots.mjs --docs docs/screenshots

conformance: setup wasm ## Attack an edge with all that must stay out: its own, or GATEWAY=host:port KEY_FILE=… (docs/SECURITY.md)
	cargo build $(LOCKED) --release $(NATIVE)
	@GATEWAY=$(GATEWAY) KEY_FILE=$(KEY_FILE) ALLOWED=$(ALLOWED) FORBIDDEN=$(FORBIDDEN) EVERY=$(EVERY) \
		$(TARGET)/release/omniflow-conformance

fuzz: .tools/bin/cargo-fuzz ## Fuzz every target for SECONDS=60 (with nightly, or with stable and RUSTC_BOOTSTRAP=1)
	@scripts/fuzz.sh $(or $(SECONDS),60) $(FUZZ)

faults: setup wasm faulty ## Break what can break, and write what callers saw into docs/OPERATIONS.md
	cargo build $(LOCKED) --release --bins --tests $(NATIVE)
	@scripts/faults.sh

soak: setup wasm ## Half of the load that this machine bears for SECONDS=1800, with key changes all the time
	cargo build $(LOCKED) --release $(NATIVE)
	@SECONDS=$(SECONDS) RATE=$(RATE) $(TARGET)/release/omniflow-soak

# With the profiles of the builds, so that build scripts (SQLite in C among them) and macros are not compiled once more.
lint: tools targets ## Check formatting, vocabulary, prose, clippy and, where it is installed, cargo-deny
	@scripts/check-vocabulary.sh
	@scripts/check-prose.sh
	cargo fmt --all --check
	cargo clippy $(LOCKED) --release --workspace --all-targets -- -D warnings
	cargo clippy $(LOCKED) --profile wasm -p omniflow-filter --target wasm32-wasip1 -- -D warnings
	cargo clippy $(LOCKED) -p omniflow-policy --target wasm32-unknown-unknown --all-targets -- -D warnings
	@if command -v cargo-deny >/dev/null; then \
		cargo deny --log-level error check bans licenses sources; \
	else \
		echo 'cargo-deny is not installed, so dependencies were not checked: make deny'; \
	fi

.tools/bin/cargo-fuzz: | tools
	cargo install cargo-fuzz --locked --quiet --root .tools

deny: .tools/bin/cargo-deny ## Check licenses, sources and advisories of all dependencies (installs cargo-deny)
	@scripts/deny.sh

sbom: .tools/bin/cargo-cyclonedx ## Write what omf and the filter are made of, in CycloneDX JSON, to target/sbom (installs cargo-cyclonedx)
	@scripts/sbom.sh $(TARGET)/sbom

.tools/bin/cargo-cyclonedx: | tools
	cargo install cargo-cyclonedx --locked --quiet --root .tools

.tools/bin/cargo-deny: | tools
	cargo install cargo-deny --locked --quiet --root .tools

# The benchmark of the request log runs without Envoy and filter, and writes nothing.
ifeq ($(firstword $(BENCH)),request-log)
bench: tools
	cargo bench $(LOCKED) -p omniflow-bench --bench request_log -- $(wordlist 2,3,$(BENCH))
else
bench: setup wasm ## Measure requests and many keys (BENCH=scale: only these) into docs/BENCHMARKS*.md; BENCH=request-log: the log
	cargo build $(LOCKED) --profile wasm --target wasm32-wasip1 -p omniflow-empty-filter -p omniflow-probe-filter
	cargo build $(LOCKED) --release $(NATIVE)
	@exec $(TARGET)/release/omniflow-bench $(BENCH)
endif

fmt: ## Format the code
	cargo fmt --all

clean: ## Remove what was built, and the demo's state
	cargo clean
	rm -rf .run

distclean: clean ## Remove what was installed here as well
	rm -rf .tools tests/browser/node_modules
