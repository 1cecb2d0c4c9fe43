package disk

import (
	"fmt"
	"os"
	"sync/atomic"
)

// mainWord is the first argument of a program that was started by Main's other
// side. No person types it.
const mainWord = "__disk"

// hasMain says that a program started again would do what it is told, and not
// run as itself, for ever.
var hasMain atomic.Bool

// Main does a part of this package's work and ends the process, if the arguments
// (without the program's name) say that it was started for that. Otherwise it
// returns. A program calls it before anything else.
func Main(args []string) {
	hasMain.Store(true)
	if len(args) < 2 || args[0] != mainWord {
		return
	}
	if err := work(args[1], args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}
