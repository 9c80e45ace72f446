# What can be done with this project. `make` alone lists it.

.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
CARGO ?= cargo
# Tests of the whole agent mostly wait, so `check` runs more of them at once than there are processors.
# Tests that need a part beside this project (Docker Engine, registry, Crossbar). `check` leaves them to `test`.
REAL = --skip real:: --skip ::crossbar:: --skip demo:: --skip network::faults --skip network::fleet

.PHONY: help check test run build build-all build-all-docker check-boards size reproduce bench bench-apps faults fleet kills soak-random \
  soak-cycles download_frpc \
  publish publish-latest-alias publish-version publish-latestVersions release rollout clean
help: ## list the targets
	@sed -n 's/^\([a-zA-Z_-]*\):.*## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 25
	@echo 'Belong to later work and only say so: $(LATER)'

check: ## format, lints, and the tests that need nothing but this folder; about a minute when warm
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	$(CARGO) test --locked --lib --bins -- --test-threads 6
	$(CARGO) test --locked --test tests -- --test-threads 8 $(REAL)

test: ## everything, real parts included: they are installed by tests/env, or the command that does it is printed
	$(CARGO) test --locked

run: ## the demonstration: cloud, registry, agent and an app on this machine, as it happens; Ctrl-C ends it
	@$(CARGO) build --locked --quiet --bin reagent --example demo
	@exec $(TARGET_DIR)/debug/examples/demo $(ARGS)

build: ## the agent for this machine, as small as it gets: target/release/reagent
	RUSTFLAGS="$(RUSTFLAGS) $(NO_PATHS)" $(CARGO) build --locked --release --bin reagent

build-all: ## the agent for each line of `targets`: static files in build/. WITH=cross or WITH=zig says with what
	@cross/build $(TARGETS)

build-all-docker: ## the same in a container that has all of it (image agent-builder; BASE=IMAGE to start from); build/ is emptied first
	@cross/docker build $(TARGETS)

check-boards: ## tests, and the agents of build/ with cloud, engine and an app, on the CPUs they are for (qemu); TARGETS="linux/arm/5" for one
	@$(CARGO) build --locked --quiet --example cloud
	@cross/check $(TARGET_DIR)/debug/examples/cloud $(TARGETS)

size: build ## bytes of the release build and of build/, against their budget; FILES=target/boards/*/release/reagent: per crate
	@cross/size $(FILES)
	@$(CARGO) tree --locked -e normal --prefix none --format '{p}' | sort -u | wc -l | sed 's/$$/ crates/'

reproduce: ## two builds of the commit in two folders are the same bytes; TARGETS="native linux/arm/5" is what is built
	@cross/reproduce $(TARGETS)

bench: build ## what an agent costs, the one of build/ if it is there, against its limits; half an hour; QUICK=1, MINUTES=10, OTHER=FILE to compare with; needs root
	@$(CARGO) build --locked --quiet --example bench --example bench-rpc
	@$(TARGET_DIR)/debug/examples/bench $(if $(MINUTES),--minutes $(MINUTES)) $(if $(QUICK),--quick) $(if $(OTHER),--other $(OTHER)) \
	  --arm build/reagent-linux-armv5 --out $(TARGET_DIR)/bench/footprint.json $(ARGS)
	@$(if $(QUICK),:,exec $(TARGET_DIR)/debug/examples/bench-rpc)

bench-apps: build ## 50 apps on one machine (APPS=n): until all of them run, a listing, idle; a table after ten minutes; needs root
	@$(CARGO) build --locked --quiet --example bench
	@exec $(TARGET_DIR)/debug/examples/bench --apps $(or $(APPS),50) --out $(TARGET_DIR)/bench/apps.json $(ARGS)

faults: ## what networks do to a session, all cases side by side: a table after three minutes; needs root
	FAULTS=long $(CARGO) test --locked --test tests network::faults -- --nocapture

soak-random: ## runs of 20 random requests with faults on the fake engine (SOAK_RUNS=n, SOAK_FROM=seed); ENGINE=real: on a real one
	$(CARGO) test --locked --test tests soak::$(or $(ENGINE),fake):: -- --nocapture

soak-cycles: ## 1,000 starts and stops of apps on a real engine (SOAK_CYCLES=n; ENGINE=fake): what stays of them, a table; needs root
	SOAK_CYCLES=$(or $(SOAK_CYCLES),1000) SOAK_SIDE=$(or $(SOAK_SIDE),9) \
	  $(CARGO) test --locked --test tests soak::cycles::$(or $(ENGINE),real):: -- --nocapture

kills: ## every state of every action is killed, cancelled and cut off: a table; KILLS=all takes eleven minutes; needs root
	KILLS=$(or $(KILLS),short) $(CARGO) test --locked --test tests real::kills -- --nocapture

fleet: ## 300 sessions at one router that restarts, and when they come back: two tables after two minutes; needs root
	FLEET=300 $(CARGO) test --locked --test tests network::fleet -- --nocapture

download_frpc: ## the tunnel client for each line of `targets`: .cache/frp/. FRPC_FROM=FOLDER or URL: upstream's archives
	@cross/frpc $(TARGETS)

# All of these take PUBLISH_TO=FOLDER, an https:// URL or gs:// (see cross/publish).
publish: ## send what is in build/, and the tunnel clients, to PUBLISH_TO; no device takes it yet
	@cross/publish files

publish-latest-alias: ## let `latest`, which installers take, be the production version
	@cross/publish latest

publish-version: ## send version.txt
	@cross/publish version

publish-latestVersions: ## send availableVersions.json: from here on devices take what it names
	@cross/publish list

release: ## the three above, in this order
	@$(MAKE) publish-latest-alias
	@$(MAKE) publish-version
	@$(MAKE) publish-latestVersions

rollout: ## build-all-docker, publish, release
	@$(MAKE) build-all-docker
	@$(MAKE) publish
	@$(MAKE) release

clean: ## remove what was built, build/ too; what tests/env and cross/build have installed below .real stays
	@cross/docker clean
	$(CARGO) clean

# Panics name their source file. Where that was on the machine of the build is in no release.
NO_PATHS = --remap-path-prefix=$(or $(CARGO_HOME),$(HOME)/.cargo)=/cargo --remap-path-prefix=$(CURDIR)=/build

TARGET_DIR = $(or $(CARGO_TARGET_DIR),target)

# Public names whose work is another issue's. They fail, so that no script takes them for done.
LATER = run_mac
.PHONY: $(LATER)
$(LATER):
	@echo "make $@ belongs to later work: it is not built yet" >&2; exit 1
