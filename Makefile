# Everything here needs Go and make; the race detector needs a C compiler too. CI calls these targets and nothing else.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# The modules of this repository: the worker, its load harness, and the tools.
MODULES := . bench tools tools/image tools/k8s tools/k8s/score tools/licences tools/prom tools/vuln
# How long each fuzz target runs, and which ones (a regular expression of their names).
FUZZTIME ?= 20s
FUZZ ?= .
# Which benchmarks run, how long, how often.
BENCH ?= .
BENCHTIME ?= 1s
COUNT ?= 1
# Arguments for `make demo`, `make bench-drain` and `make sizing`.
ARGS ?=
# The most a whole test run may take.
TIMEOUT ?= 15m

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
GOFMT = "$$(go env GOROOT)/bin/gofmt"
# The linter is built from tools/go.mod, so that none of its dependencies enter the worker's module.
LINT = go tool -modfile=tools/go.mod golangci-lint

.PHONY: help
help: ## Show this list.
	@awk 'BEGIN {FS = ":.*## "} /^[a-z0-9-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' Makefile

.PHONY: check
check: fmt-check tidy-check vet lint rules-check supply build k8s-check image-check test-race fleet faults bench-check ## Everything a change must pass: what CI runs.
	@echo "==> all checks passed"

# tools builds what the checks are made of, and checks nothing.
.PHONY: tools
tools: ## Build the linter and the other tools, which takes minutes the first time.
	@$(LINT) version
	@$(PROMTOOL)
	@for module in tools/licences tools/vuln tools/k8s tools/k8s/score tools/image; do (cd "$$module" && go test -run '^$$' ./...); done

.PHONY: build
build: ## Build bin/worker, static and reproducible.
	@echo "==> build $(VERSION)"
	@CGO_ENABLED=0 go build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o bin/worker ./cmd/worker

# Arguments for `make image`, such as "-json" or "-platforms linux/amd64".
IMAGEARGS ?=
.PHONY: image
image: ## Build the container image without Docker: bin/image, an OCI layout, with what is in it and how it was built.
	@echo "==> image $(VERSION) (the first run builds its tools)" >&2
	@cd tools/image && go build -o ../../bin/build-image .
	@bin/build-image -version '$(VERSION)' $(IMAGEARGS)

# -count=1 because the tests read files outside of their module, and Go would not notice that those have changed.
.PHONY: image-check
image-check: ## Build the image twice, look into it, and start it as a container would be started.
	@echo "==> image: vet and test"
	@cd tools/image && go vet ./... && go test -count=1 -timeout $(TIMEOUT) ./...

.PHONY: demo
demo: ## Run the demo: broker, both upstreams, worker and publisher in one process (ARGS="--queries 1000").
	@go run ./cmd/worker demo $(ARGS)

.PHONY: test
test: ## Run all tests.
	@echo "==> test"
	@go test -timeout $(TIMEOUT) ./...

.PHONY: test-race
test-race: ## Run all tests with the race detector, in random order.
	@echo "==> test with the race detector, shuffled"
	@CGO_ENABLED=1 go test -race -shuffle=on -timeout $(TIMEOUT) ./...

.PHONY: test-thrice
test-thrice: ## Run all tests three times, in random order.
	@echo "==> test three times, shuffled"
	@go test -shuffle=on -count=3 -timeout 40m ./...

# What judges the fleet as a whole rather than its faults: a rollout, rotation, memory, the pace. The soak is a target of its own, too.
FLEET := ^(TestRollout|TestF16Rotate|TestF31.*|TestF32.*|TestF38Memory|TestTheLeakHuntFindsAMutant)$$

.PHONY: faults
faults: ## Break brokers, workers and lines in full, and count what is lost or doubled (four to five minutes).
	@echo "==> faults, in full"
	@FAULTS=full go test -tags faults -count=1 -timeout 20m -v -skip '$(FLEET)' ./faults/...
	@go test -tags crashpoints ./internal/crashpoint

.PHONY: faults-every
faults-every: ## The same, with a cut at every byte of every kind of frame, and the fleet's tests (the pace in short: see pace).
	@echo "==> faults, at every place"
	@FAULTS=every go test -tags faults -count=1 -timeout 60m -v ./faults/...

.PHONY: faults-short
faults-short: ## In short: each fault a few times.
	@echo "==> faults, in short"
	@go test -tags faults -count=1 -skip '$(FLEET)' ./faults/...

.PHONY: faults-race
faults-race: ## In short, with the race detector in the tests and in the workers.
	@echo "==> faults, in short, with the race detector"
	@CGO_ENABLED=1 go test -race -tags faults -count=1 -timeout 40m -skip '$(FLEET)' ./faults/...

.PHONY: fleet
fleet: ## Roll, scale and kill workers, judge their pace, rotate what they log in with, fill their memory, in short; and leak (a minute).
	@echo "==> fleet: rollout, pace, rotation, memory, a leak that is found"
	@go test -tags faults -count=1 -timeout 10m -run '$(FLEET)' ./faults

SOAK ?= 60m
.PHONY: soak
soak: ## Random faults under load for SOAK (60m); SOAKARGS="-seed N" repeats a run.
	@go test -count=1 -timeout 12h -v -tags faults -run '^TestSoak$$' ./faults -args -soak $(SOAK) $(SOAKARGS)

.PHONY: replay-bench
replay-bench: ## Replay 10,000 dead letters at 500/s through two kills and a broker restart (a minute and a half).
	@go test -tags replaybench -count=1 -timeout 15m -v -run '^TestReplayOfTenThousand$$' ./cmd/worker

PACETESTS ?= TestF31Scale TestF31HiddenLimit TestF31Lanes TestF31Clients TestF32StoreAway
.PHONY: pace
pace: ## Judge the pace of real workers in full, one test after the other: a quarter of an hour on an idle machine.
	@for test in $(PACETESTS); do \
		PACE=full go test -tags faults -count=1 -timeout 40m -v -run "^$$test\$$" ./faults; \
	done

.PHONY: pace-pictures
pace-pictures: ## Draw the pictures of docs/pace anew from a simulated fleet.
	@PACE_PICTURES="$(CURDIR)/docs/pace" go test -count=1 -run '^TestPicture' ./internal/quota

.PHONY: cover
cover: ## Run all tests and show how much of the code they reach (coverage.html has the lines).
	@go test -timeout $(TIMEOUT) -coverpkg=./... -coverprofile=coverage.out ./...
	@go tool cover -html=coverage.out -o coverage.html
	@go tool cover -func=coverage.out | tail -n 1

.PHONY: fuzz
fuzz: ## Run each fuzz target for FUZZTIME (20s); FUZZ=Decode picks by name.
	@found=0; \
	for package in $$(go list ./...); do \
		targets=$$(go test -list '^Fuzz' "$$package" | grep '^Fuzz' | grep -E -- '$(FUZZ)' || true); \
		for target in $$targets; do \
			echo "==> fuzz $$package $$target for $(FUZZTIME)"; \
			go test -run '^$$' -fuzz "^$$target\$$" -fuzztime '$(FUZZTIME)' "$$package"; \
			found=$$((found + 1)); \
		done; \
	done; \
	echo "==> $$found fuzz targets ran"; [ "$$found" -gt 0 ]

.PHONY: bench
bench: ## Run the benchmarks (BENCH=Decode COUNT=10 for benchstat).
	@go test -run '^$$' -bench '$(BENCH)' -benchmem -benchtime '$(BENCHTIME)' -count $(COUNT) ./...

.PHONY: bench-drain
bench-drain: ## Drain a full stream with the worker and with a bare loop in turn (ARGS for the harness).
	@cd bench && go run . $(ARGS)

.PHONY: sizing
sizing: ## Measure what workers and broker need, and print the tables of docs/deploy.md (minutes; ARGS for the harness).
	@cd bench && go run ./sizing $(ARGS)

.PHONY: bench-check
bench-check: ## Vet and test the load harness, which is a module of its own.
	@echo "==> bench module: vet and test"
	@cd bench && go vet ./... && go test -timeout $(TIMEOUT) ./...

.PHONY: lint
lint: ## Run the linters of .golangci.yaml; the first run builds them, which takes two minutes.
	@echo "==> lint (the first run builds the linter)"
	@$(LINT) run ./...
	@$(LINT) run --build-tags faults ./faults/...

# promtool is built from a module of its own, and without the clients of all the clouds in which it could discover targets.
PROMTOOL = cd tools/prom && go build -tags remove_all_sd -o ../../bin/promtool github.com/prometheus/prometheus/cmd/promtool
.PHONY: rules-check
rules-check: ## Check and test the Prometheus rules; the first run builds promtool, which takes some minutes.
	@echo "==> rules (the first run builds promtool)"
	@$(PROMTOOL)
	@bin/promtool check rules --lint=all --lint-fatal deploy/prometheus/*.yaml
	@bin/promtool test rules deploy/prometheus/tests/*.yaml

# The manifests are built and checked without a cluster. The first run builds the API's types, twice: kube-score needs those of an older version.
# -count=1 as in image-check.
.PHONY: k8s-check
k8s-check: ## Build and check the Kubernetes manifests; the first run takes some minutes.
	@echo "==> Kubernetes manifests (the first run builds the API's types)"
	@cd tools/k8s && go vet ./... && go test -count=1 -timeout $(TIMEOUT) ./...
	@cd tools/k8s/score && go vet ./... && go test -count=1 -timeout $(TIMEOUT) ./...

.PHONY: k8s-rules
k8s-rules: ## Write the rules of deploy/k8s anew from deploy/prometheus.
	@cd tools/k8s && go run . rules

# Where the code comes from. The tools are modules of their own, so that nothing of them enters the worker's.
VULNARGS ?=
.PHONY: supply
supply: verify licences vuln pan-scan ## Check checksums, licences, known vulnerabilities, and for card numbers in the repository.
	@echo "==> supply chain: checked"

.PHONY: verify
verify: ## Check that the dependencies of every module here are what their checksums say.
	@echo "==> dependencies are what their checksums say"
	@for module in $$(find . -name go.mod -not -path './.git/*' | sort); do \
		(cd "$$(dirname "$$module")" && go mod verify >/dev/null) || { echo "$$module: go mod verify failed"; exit 1; }; \
	done

.PHONY: licences
licences: ## Fail if a module that is linked into the worker is not under an allowed licence.
	@echo "==> licences of what is shipped"
	@cd tools/licences && go vet ./... && go test ./... && go run . -C ../..

.PHONY: vuln
vuln: ## Fail if the worker calls a function with a known vulnerability (VULNARGS=-required: also if that can't be looked up).
	@echo "==> known vulnerabilities"
	@cd tools/vuln && go vet ./... && go test ./... && go run . -C ../.. $(VULNARGS)

.PHONY: pan-scan
pan-scan: ## Fail if a file holds a card number that is not a public test number; `go test ./...` does so too.
	@echo "==> no card number in the repository"
	@go test -count=1 -run 'CardNumber' ./internal/archtest

.PHONY: vet
vet: ## Run go vet.
	@echo "==> vet"
	@go vet ./...
	@go vet -tags faults ./faults/...
	@go vet -tags replaybench ./cmd/worker

.PHONY: fmt
fmt: ## Format the code and group its imports.
	@$(LINT) fmt ./...
	@$(GOFMT) -s -w .

.PHONY: fmt-check
fmt-check: ## Fail if a file is not formatted.
	@echo "==> format"
	@unformatted=$$($(GOFMT) -s -l .); [ -z "$$unformatted" ] || { echo "not formatted, run make fmt:"; echo "$$unformatted"; exit 1; }

.PHONY: tidy
tidy: ## Tidy the go.mod of every module.
	@for module in $(MODULES); do (cd "$$module" && go mod tidy); done

.PHONY: tidy-check
tidy-check: ## Fail if a go.mod or go.sum is not tidy.
	@echo "==> modules are tidy"
	@for module in $(MODULES); do (cd "$$module" && go mod tidy -diff) || { echo "$$module: run make tidy"; exit 1; }; done

.PHONY: clean
clean: ## Remove what was built or measured; never a store or a key.
	@rm -rf bin coverage.out coverage.html
