package server

import (
	"time"

	"golang.org/x/sys/unix"
)

// Limits of the HTTP layer. Those of a request's content stand with its parser.
const (
	maxHeaderBytes  = 64 << 10
	maxBodyBytes    = 64 << 20
	maxBodiesBytes  = 4 * maxBodyBytes // of all requests that are being read or parsed
	readStall       = 10 * time.Second // a request that sends nothing for so long is dropped
	maxBodyDuration = 5 * time.Minute  // however steadily it trickles
	idleTimeout     = 2 * time.Minute  // of a connection that is kept alive
	// What is left of a body that nobody wants comes until then, or the connection ends.
	// Less than DefaultWriteStall: net/http waits for it in the middle of writing.
	leftBodyStall = time.Second
	// maxConnections are open at a time, idle ones included: some 10 KiB each.
	maxConnections = 4096
	// minConnections are allowed however few files the process may open.
	minConnections = 16
)

// ConnectionLimit is how many connections a process may have that may open so
// many files: half of them, for the cache and the model need some, too.
func ConnectionLimit(files uint64) int {
	return max(minConnections, int(min(files/2, maxConnections)))
}

// OpenFileLimit is how many files this process may open. The Go runtime has
// raised it as far as it may be raised.
func OpenFileLimit() uint64 {
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r); err != nil {
		return maxConnections // as good a guess as any
	}
	return r.Cur
}
