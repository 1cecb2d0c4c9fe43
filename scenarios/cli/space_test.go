package cli

import (
	"errors"
	"math"
	"strings"
	"testing"
)

// A full disk of the harness is no failure of the server.
func TestRoomToWork(t *testing.T) {
	if err := roomToWork(0); err != nil {
		t.Error(err)
	}
	if err := roomToWork(math.MaxInt64); !provesNothing(err) || !strings.Contains(err.Error(), "TMPDIR") {
		t.Error(err)
	}
	t.Setenv("TMPDIR", "/nonexistent")
	if err := roomToWork(0); !provesNothing(err) {
		t.Error(err)
	}
}

func provesNothing(err error) bool {
	var e *exitError
	return errors.As(err, &e) && e.code == ExitInconclusive
}
