# The main targets are `start` and `test`; `make help` lists all. They run on the Node that tools/with-node finds or
# installs.
SHELL := /bin/sh
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.PHONY: help start build test check bench prove mutants soak clean

installed := node_modules/.package-lock.json
built := dist/.built

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1	\2/p' Makefile | expand -t 20

start: $(built) ## everything on this machine; Ctrl-C stops it (PORT=3000 SENDMUX_DATA_DIR=.sendmux; KAFKA=1 or 3: on a Kafka too)
	@exec tools/with-node node dist/local/start.js

build: $(built) ## compile into dist/, when sources are newer

test: $(installed) ## everything: checks, build, unit, integration and whole-system tests, with a summary (NODE=22 or 24: on that one; INSTALL=1: installs counterparts meanwhile)
	@tools/with-node node tools/test.mjs $(if $(INSTALL),--install)

check: $(installed) ## format, lint, types, boundaries, event schemas, OpenAPI document, Helm chart
	@tools/with-node npm run --silent check

bench: $(built) ## figures against the bare things, as ratios of one run (BENCH=start: that one; COMPARE=1: against those that are kept)
	@exec tools/with-node node tools/bench.mjs $(BENCH) $(if $(COMPARE),--compare)

# What the shell needs of a case is quoted here, and the variable is in the environment of the recipe.
prove: $(built) ## a fault at each message of each app, and the invariants after it; goes on where it was stopped (SEED=23, SECONDS=600, AGAIN=1, SCENARIO=add, MATCH=gateway-postgres, CASE='…': one alone)
	@exec tools/with-node node --enable-source-maps dist/test/proof/prove.js $(if $(SEED),--seed $(SEED)) $(if $(SECONDS),--seconds $(SECONDS)) $(if $(AGAIN),--again) $(foreach name,$(SCENARIO),--scenario $(name)) $(if $(MATCH),--match "$$MATCH") $(if $(CASE),--case "$$CASE")

mutants: $(installed) ## changes one thing after another in libs, and looks whether a test fails (LIB=mail-domain, PART=file, SAMPLE=5: of a hundred lines, NO_TEXTS=1); PEERS=1: plants known bugs instead, each of which its named test must catch (BUG=name)
	@exec tools/with-node node $(if $(PEERS)$(BUG),tools/plant-bugs.mjs $(BUG),tools/mutants.mjs $(LIB) $(if $(PART),--part $(PART)) $(if $(SAMPLE),--sample $(SAMPLE)) $(if $(SEED),--seed $(SEED)) $(if $(NO_TEXTS),--no-texts))

soak: $(built) ## everything for two hours with faults at random; what is held has to stay (MINUTES=120, SEED=23, KAFKA=1: on a Kafka, CALM=1: no faults)
	@exec tools/with-node node --enable-source-maps dist/test/soak/soak.js $(if $(MINUTES),--minutes $(MINUTES)) $(if $(SEED),--seed $(SEED)) $(if $(KAFKA),--kafka) $(if $(CALM),--calm)

clean: ## remove what was built; the data in .sendmux stays
	rm -rf dist test-results

$(installed): package-lock.json
	npm_config_strict_allow_scripts=true tools/with-node npm ci --no-audit --no-fund --no-update-notifier
	@touch $(installed)

# The list includes folders, so that the removal of a file causes a build too. `/.` distinguishes the folder `bench`
# from the target `bench`.
$(built): $(installed) tsconfig.json tsconfig.build.json nest-cli.json tools/bundle.mjs $(shell find apps/. libs/. local/. bench/. web/. test/proof/. test/soak/. -not -name '*.spec.ts')
	tools/with-node npm run --silent build
	@touch $(built)
