# Two commands: `make start` and `make test`. `make help` lists the rest.
SHELL := /bin/sh
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.PHONY: help start build test check bench clean

installed := node_modules/.package-lock.json
built := dist/.built

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1	\2/p' Makefile | expand -t 20

start: $(built) ## everything on this machine; Ctrl-C stops it (PORT=3000 SENDMUX_DATA_DIR=.sendmux; KAFKA=1 or 3: on a Kafka too)
	@exec node dist/local/start.js

build: $(built) ## compile into dist/, when sources are newer

test: $(installed) ## everything: checks, build, unit, integration and whole-system tests, with a summary
	@node tools/test.mjs

check: $(installed) ## format, lint, types, boundaries, event schemas
	@npm run --silent check

bench: $(built) ## figures against the bare things, as ratios of one run
	@npm run --silent bench

clean: ## remove what was built; the data in .sendmux stays
	rm -rf dist test-results

$(installed): package-lock.json
	@node tools/node-version.mjs
	npm ci --no-audit --no-fund
	@touch $(installed)

# Folders are among them: taking a file away is a change too. `/.` keeps the folder `bench` apart from the target.
$(built): $(installed) tsconfig.json tsconfig.build.json nest-cli.json $(shell find apps/. libs/. local/. bench/. -not -name '*.spec.ts')
	npm run --silent build
	@touch $(built)
