//go:build !linux

package cpu

// adviseHuge does nothing: there is nothing to ask for.
func adviseHuge([]byte) {}
