//go:build !amd64 && !arm64

package kernels

func archSets() []*Set { return nil }
