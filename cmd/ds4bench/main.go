// Command ds4bench replays failure scenarios against a ds4 server, injects
// faults, measures prefill throughput, and judges how the server recovers.
package main

import (
	"os"

	"ds4/scenarios/cli"
)

func main() { os.Exit(cli.Main(os.Args[1:], os.Stdout, os.Stderr)) }
