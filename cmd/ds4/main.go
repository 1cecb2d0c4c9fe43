// Command ds4 serves and runs DeepSeek-V4-architecture models. It contains
// nothing but the call of its commands.
package main

import (
	"os"

	"ds4/runtime/cli"
)

func main() { os.Exit(cli.Main(os.Args[1:], cli.OSStreams())) }
