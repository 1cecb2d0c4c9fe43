#!/usr/bin/env bash
# Real coding agents against ds4 serve, with the embedded model, on a machine that has
# no network: each works inside a network namespace that holds the loopback interface
# and nothing else.
#
#	agents.sh PATH-OF-DS4 [AGENT...]
#
# The agents (codex, claude, opencode; all without names) come from the npm registry,
# pinned by package-lock.json, about 1 GB: this is for the night, not for every change.
set -euo pipefail

[ $# -ge 1 ] || { echo "usage: $0 PATH-OF-DS4 [AGENT...]" >&2; exit 2; }
binary=$(realpath "$1")
shift
cd "$(dirname "$0")"

# The install scripts only copy the program for this system out of the package that
# npm has chosen for it; the two that have one do so from what is installed.
npm ci --no-audit --no-fund --loglevel=error
exec unshare -rn bash -c 'ip link set lo up && exec node agents.mjs "$@"' agents "$binary" "$@"
