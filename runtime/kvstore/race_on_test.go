//go:build race

package kvstore_test

const (
	// raceDetector: this binary looks for data races.
	raceDetector = true
	// stride thins sweeps over every byte where each step is slow.
	stride = 11
)
