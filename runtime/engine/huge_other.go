//go:build !linux

package engine

// adviseFill does nothing: there is nothing to ask for.
func adviseFill([]byte, int, int) {}
