package cli

import (
	"errors"
	"fmt"
	"os"

	"ds4/reports"
)

// rescue goes on in another file when the results file cannot be written any
// more, because its disk is full for example: nothing that was measured is lost.
// The run is not in order all the same, which moved remembers.
func (r *results) rescue(cause error) error {
	if errors.Is(cause, reports.ErrFormat) || errors.Is(cause, reports.ErrTooLarge) || r.moved != nil {
		return infrastructure(cause) // another file would not help
	}
	f, err := os.CreateTemp("", "ds4bench-rescued-*.jsonl")
	if err != nil {
		r.lost = true
		return infrastructure(errors.Join(cause, err))
	}
	w, err := reports.NewWriter(f, r.log.Run)
	for i := range r.log.Results {
		if err == nil {
			err = w.Result(&r.log.Results[i])
		}
	}
	if err != nil {
		r.lost = true
		return infrastructure(errors.Join(cause, err, f.Close(), os.Remove(f.Name())))
	}
	r.moved = fmt.Errorf("results file %s: %w; all results are in %s", r.path, cause, f.Name())
	if r.warn != nil {
		fmt.Fprintf(r.warn, "ds4bench: %v\n", r.moved)
	}
	_ = r.file.Close() // it ends in the middle, as that of a killed run
	r.file, r.w, r.path = f, w, f.Name()
	return nil
}

// place says where the results are, for the last line of a command.
func (r *results) place() string {
	if r.lost {
		return fmt.Sprintf("%s holds only the first of them, and there is no other place", r.path)
	}
	return "results in " + r.path
}
