package cli

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"ds4/faults/proc"
)

// liveServer is a server that answers.
type liveServer struct {
	url   string
	pid   int // 0 if it is not ours
	args  []string
	log   *proc.Log
	close func()
}

// readyTimeout bounds the start of a server: big models are mapped, not read.
const readyTimeout = 2 * time.Minute

// startServer runs the server without a disk cache, which is not measured here.
func startServer(ctx context.Context, srv server, model string, contextTokens int, extra []string) (*liveServer, error) {
	if srv.target != "" {
		return &liveServer{url: srv.target, close: func() {}}, nil
	}
	args := []string{"serve", "--host", "127.0.0.1", "--port", "0", "--ctx", strconv.Itoa(contextTokens)}
	if model != "" {
		args = append(args, "--model", model)
	}
	args = append(args, extra...)
	dir, err := os.MkdirTemp("", "ds4bench-speed-")
	if err != nil {
		return nil, fmt.Errorf("start the server: %w", err)
	}
	// A lock file of its own: a server that somebody uses beside us is a reason for
	// a warning, not for a refusal.
	env := []string{"DS4_LOCK_FILE=" + filepath.Join(dir, "lock")}
	log := proc.NewLog(nil)
	process, err := proc.Start(proc.Config{Path: srv.path, Args: args, Env: env, Log: log})
	if err != nil {
		os.RemoveAll(dir)
		return nil, fmt.Errorf("start the server: %w", err)
	}
	stop := func() {
		process.Close()
		os.RemoveAll(dir)
	}
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	url, err := process.WaitReady(ctx)
	if err != nil {
		stop()
		return nil, fmt.Errorf("start the server: %w", err)
	}
	return &liveServer{url: url, pid: process.PID(), args: args, log: log, close: stop}, nil
}
