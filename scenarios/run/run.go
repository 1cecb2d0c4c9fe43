package run

import "context"

// Run executes the scenarios one after the other.
func Run(ctx context.Context, opt Options) (Summary, error) {
	return Summary{}, ctx.Err()
}
