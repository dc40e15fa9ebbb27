# `make` alone prints the targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help
GO ?= go

.PHONY: help
help: ## print this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## build bin/sluice
	$(GO) build -trimpath -o bin/sluice .

.PHONY: tools
tools: ## build bin/nats and bin/nats-server, the stock command line and server
	$(GO) build -C tools -trimpath -o ../bin/nats-server github.com/nats-io/nats-server/v2
	$(GO) build -C tools -trimpath -o ../bin/nats github.com/nats-io/natscli/nats

.PHONY: images
images: ## provide the images of the demonstration study
	examples/images.sh

.PHONY: demo
demo: build ## run the demonstration study from end to end
	@bin/sluice doctor --only engine
	@examples/images.sh
	@cd examples/penguins && SLUICE_IMAGE_PREFIX=sluice-demo/ ../../bin/sluice run $(DEMO)

.PHONY: docs
docs: ## write what is generated in docs/
	$(GO) generate ./internal/fault

.PHONY: lint
lint: ## formatting, vet and staticcheck
	@test -z "$$(gofmt -l $$(git ls-files '*.go') | tee /dev/stderr)" || { echo "run: gofmt -w ."; exit 1; }
	$(GO) vet ./...
	$(GO) tool -modfile=tools/go.mod staticcheck ./...

.PHONY: test
test: build tools ## everything: lint, unit, service and end-to-end tests, with the race detector
	@bin/sluice doctor --only engine
	@$(MAKE) --no-print-directory lint
	$(GO) test -race -timeout 30m $$($(GO) list ./... | grep -v /e2e)
	$(GO) test -race -timeout 45m -p 1 ./e2e/... # each has fleets of its own: one after another

.PHONY: unprotected
unprotected: ## take the protection behind each fault point out: its test must fail
	$(GO) test -count=1 -timeout 30m ./e2e/reliability -without-protection -v

SEED ?= 0
JOBS ?= 300
BUDGET ?= 10m
.PHONY: chaos
chaos: tools ## a fleet in a storm of faults, compared with a calm one: SEED=… JOBS=… BUDGET=… repeat a run
	$(GO) build -trimpath -tags faults -o bin/sluice-faults .
	@bin/sluice-faults doctor --only engine
	$(GO) run ./e2e/chaos -seed $(SEED) -jobs $(JOBS) -budget $(BUDGET)

.PHONY: clean
clean: ## remove what the build and the demonstration made
	rm -rf bin examples/penguins/.sluice examples/penguins/metadata examples/penguins/output
