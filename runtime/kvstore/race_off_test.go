//go:build !race

package kvstore_test

const (
	// raceDetector: this binary looks for data races.
	raceDetector = false
	// stride thins sweeps over every byte where each step is slow.
	stride = 1
)
