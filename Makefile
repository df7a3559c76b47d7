# The front door: `make` lists what can be asked. The work itself is in scripts/ and in `cargo xtask`.

.DEFAULT_GOAL := help
.PHONY: help try test test-kvm smoke-hosts chaos check bench clean

help: ## List these commands
	@awk -F ': ## ' '/^[a-z-]+: ## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

try: ## Install QEMU if missing, build, and run `git --version` inside a guest
	@scripts/try.sh

test: ## Run all tests, those on real guests included, and say how many guests were booted
	@scripts/install-qemu.sh
	@scripts/install-conformance.sh clients
	@cargo xtask test

test-kvm: ## Run pyro under a real KVM, in an emulated host that has one: what works, not how fast
	@scripts/install-qemu.sh
	@cargo xtask test-kvm

smoke-hosts: ## Have the real Claude Code, Codex and OpenCode work with pyro, offline, with a scripted model
	@scripts/install-qemu.sh
	@cargo xtask smoke-hosts

chaos: ## Kill what pyro is made of at random moments, over and over (make chaos COUNT=200 SEED=7)
	@scripts/install-qemu.sh
	@cargo xtask chaos $(or $(COUNT),200) $(SEED)

check: ## Everything that continuous integration checks: format, lints, docs, tidy, all tests
	@scripts/install-qemu.sh
	@scripts/install-conformance.sh clients
	@cargo xtask ci

bench: ## Print the benchmark table (make bench ARGS='--json', ARGS='warm-true cold-true', ARGS=choices)
	@scripts/install-qemu.sh
	@cargo xtask bench -- $(ARGS)

clean: ## Remove what was built here (environments stay: `pyro env prune --all` removes those)
	cargo clean
