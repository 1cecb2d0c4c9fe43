//go:build !amd64

package kernels

func archSets() []*Set { return nil }
