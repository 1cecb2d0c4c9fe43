//go:build race

package kvstore_test

// stride thins sweeps over every byte where each step is slow.
const stride = 11
