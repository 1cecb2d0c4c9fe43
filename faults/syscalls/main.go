package syscalls

import (
	"fmt"
	"os"
	"sync/atomic"
)

// launchWord is the first argument of a program that was started to become a
// target. No person types it.
const launchWord = "__syscalls"

// launchFailed is the exit code of a launcher that could not start the target, as
// that of env(1).
const launchFailed = 125

// hasMain says that a program started again would do what it is told.
var hasMain atomic.Bool

// Main becomes the target, under a filter, if the arguments (without the
// program's name) say that the program was started for that. Otherwise it
// returns. A program calls it before anything else.
func Main(args []string) {
	hasMain.Store(true)
	if len(args) == 0 || args[0] != launchWord {
		return
	}
	err := launch(args[1:]) // returns only if it fails, or if it was told to try something
	if err == nil {
		os.Exit(0)
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(launchFailed)
}
