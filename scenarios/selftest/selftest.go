// Package selftest is the part of the harness that looks inside: it runs the
// store itself on a file system that crashes, makes models that differ from the
// embedded one in one respect (weights, tokenizer, layers), and knows how to break a
// runtime on purpose, to prove that the scenarios notice.
//
// It is the only package of the harness that may import the runtime. Nothing
// here judges a server; package run does that from outside.
package selftest

import (
	"os"

	"ds4/runtime/config"
)

// Switches lists what can be broken in a server, by the words of its hidden flag
// --unsafe. Each takes one safeguard away.
func Switches() []string { return config.UnsafeSwitches }

// writeFile writes a model to a path, whole or not at all.
func writeFile(path string, data []byte) error {
	tmp := path + ".tmp"
	if err := os.WriteFile(tmp, data, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}
