# The commands of CONTRIBUTING.md by name. Nothing here is needed to build.

.PHONY: all help check test race bench golden scenarios ci

all: check test ## check and test

help: ## this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "make %-10s %s\n", $$1, $$2 }'

check: ## what every change must pass: format, vet, staticcheck, tidy test
	@test -z "$$(git ls-files '*.go' | grep -v testdata/ | xargs gofmt -l | tee /dev/stderr)"
	go vet ./...
	go tool -modfile=.ci/tools.mod staticcheck ./...
	go test -count=1 .

test: ## every package
	go test ./...

# The second line leaves the kernels uninstrumented: they take most of the time.
race: ## data races, where goroutines meet; needs a C compiler
	go test -race -short ./metal/... ./runtime/kvstore/... ./runtime/failpoint ./faults/proc ./faults/proxy
	go test -race -short -gcflags=ds4/metal/cpu/...=-race=false ./runtime/engine ./runtime/scheduler ./runtime/server

golden: ## logits, token ids and prompts against reference data
	go test -count=1 -run 'Golden|DS4Reference|BitIdentical|History|Canonical' ./runtime/engine ./runtime/tokenizer ./runtime/chat

# The first line compares with llama.cpp if LLAMABENCH names a command for it.
bench: ## speed, on a machine that does nothing else
	.ci/bench
	go test -run '^$$' -bench . -benchmem ./runtime/engine ./runtime/kvstore/... ./metal/...
	go run ./cmd/ds4bench speed
	go run ./cmd/ds4 kv bench

scenarios: ## the built-in scenarios, as far as this host allows them
	go run ./cmd/ds4bench run

ci: ## all of it, as CI does
	bash .ci/run
