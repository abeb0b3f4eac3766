# Everything a person or CI runs. Each target first sees to what it needs on the
# machine (tests/setup); what is big is kept in CACHE, outside the checkout, and
# may be absent.
#
#   make demo         a forge, two hosts and a cache, and what happens between them; KEEP=1 leaves them running
#   make test         all tests
#   make vm-test      whole hosts, booted for real: as root, some minutes
#   make soak         stories of the simulated world nobody has played yet, until one ends badly
#   make lint         formatting, clippy, licences, bans and sources; known vulnerabilities, where the network has them; the Nix files, with NIXPKGS=PATH evaluated
#   make prose     how the doc comments begin, and how many say next to nothing
#   make bench        the figures, of the program as it is shipped; BENCH_ONLY=flat one part of them
#   make mutants      how much the core's tests notice
#   make build        target/release/fort-agent

CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/fort-agent
TOOLS := $(CACHE)/tools
export PATH := $(TOOLS)/bin:$(PATH)
CARGO ?= cargo
SETUP := CACHE=$(CACHE) sh tests/setup

.PHONY: build demo test vm-test soak lint prose bench mutants clean

build:
	@$(SETUP) build
	$(CARGO) build --release --locked

demo:
	@$(SETUP) build nix
	$(CARGO) build --locked --bin fort-agent --example demo
	$(CARGO) run --quiet --locked --example demo

# Many tests wait more than they compute: there is one more at a time than cores.
test:
	@$(SETUP) build nix bus browser prometheus
	@if $(CARGO) nextest --version >/dev/null 2>&1; then \
	  threads=$$(($$(nproc) + 1)); \
	  echo $(CARGO) nextest run --locked --no-fail-fast --test-threads $$threads; \
	  $(CARGO) nextest run --locked --no-fail-fast --test-threads $$threads; \
	else \
	  echo "cargo-nextest is not here: the tests run by cargo test"; \
	  $(CARGO) test --locked --no-fail-fast; \
	fi

# Each host-test is a process that ends its own hosts; so cargo-nextest, which
# also ends a test that hangs.
vm-test:
	@$(SETUP) build nix vm
	@CACHE=$(CACHE) sh vm-tests/setup
	CACHE=$(CACHE) $(CARGO) nextest run --locked --profile vm --test vm
	@CACHE=$(CACHE) sh vm-tests/setup where sid >/dev/null || \
	  echo "*** LEFT OUT on sid: $$(CACHE=$(CACHE) sh vm-tests/setup where sid)"

# A million deployments at a time, each time others; a failing seed is told as a
# story and can be played again: FORT_AGENT_SEED=N cargo nextest run a_seed_can
soak:
	@$(SETUP) build
	while FORT_AGENT_FROM=$$(date +%s)0000000 FORT_AGENT_SIM=1000000 \
	  $(CARGO) test --locked --lib every_story; do :; done

lint:
	@$(SETUP) build nix unit deny
	$(CARGO) fmt --all --check
	@tests/prose
	$(CARGO) clippy --locked --all-targets -- -D warnings
	$(CARGO) clippy --locked --test vm -- -D warnings
	$(CARGO) fetch --locked
	$(CARGO) deny --offline check licenses bans sources
	@CARGO=$(CARGO) tests/advisories
	@NIXPKGS=$(NIXPKGS) nix/check

prose:
	@tests/prose

bench:
	@$(SETUP) build nix
	$(CARGO) build --release --locked
	$(CARGO) build --locked --example bench
	FORT_AGENT_BENCH=$(CURDIR)/target/release/fort-agent target/debug/examples/bench

mutants:
	@$(SETUP) build mutants
	FORT_AGENT_SIM=2000 $(CARGO) mutants --package fort-core --file 'crates/core/src/*.rs' \
	  --exclude 'crates/core/src/simulation/**' --output $(CACHE)/mutants -- --lib

clean:
	$(CARGO) clean
