package cli

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"ds4/runtime/config"
	"ds4/runtime/kvstore/replay"
	"ds4/runtime/server"
)

// serveSettings are the settings of `ds4 serve`.
type serveSettings struct {
	settings
	model    config.Model
	kv       config.KV
	server   config.Server
	access   config.Access
	keys     []string // of access
	recovery config.Recovery
	faults   config.Faults
}

func (a *app) serveCommand() *cobra.Command {
	s := &serveSettings{}
	s.AddModel(&s.model)
	s.AddServer(&s.server)
	s.AddAccess(&s.access)
	s.AddKV(&s.kv)
	s.AddRecovery(&s.recovery)
	s.AddFaults(&s.faults)
	s.AddOriginal()
	cmd := a.command("serve [options]", "serve a model over HTTP", noArgs, &s.settings,
		func(cmd *cobra.Command, _ []string) error { return a.serve(cmd.Context(), s) })
	cmd.Long = `Serves a model over HTTP with the APIs of OpenAI and Anthropic, on this machine only
unless --host says otherwise. GET / is a page to talk to it; /healthz and /metrics say
how it is. Without --kv-disk-dir prefill does not survive the process.

One server runs at a time, because it takes the memory that there is: a second one ends
with code 2. DS4_LOCK_FILE names another lock file, for servers that may run side by
side. DS4_CPU names the kernels, if it should not be the best ones.

SIGINT or SIGTERM ends what runs, saves the conversations in memory within
--shutdown-timeout, and ends the process with code 0; a second one ends it at once.`
	cmd.Example = `  ds4 serve --kv-disk-dir ~/.cache/ds4
  ds4 serve -m FILE.gguf --ctx 100000 --kv-disk-dir ~/.cache/ds4 --kv-disk-space-mb 65536
  DS4_API_KEY=... ds4 serve --host 0.0.0.0
  ds4 serve --ctx 65536 --print-config > ds4.yaml && ds4 serve --config ds4.yaml`
	return cmd
}

var (
	errSignalled = errors.New("a signal asked for the end")
	errDevice    = errors.New("the device needs a new process")
)

// serve runs the server until a signal or the device ends it. The order of the
// start is what the log shows and clients rely on: nothing is accepted before the
// cache is recovered.
func (a *app) serve(ctx context.Context, s *serveSettings) error {
	signal.Ignore(syscall.SIGPIPE)
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	defer watchSignals(end)()

	if s.model.Chdir != "" {
		if err := os.Chdir(s.model.Chdir); err != nil {
			return badUsage("--chdir: %w", err)
		}
	}
	logger := server.NewLogger(a.Err, nil)
	var err error
	if s.keys, err = s.access.Keys(); err == nil {
		err = s.openOnPurpose()
	}
	if err != nil {
		return badInput(err)
	}
	lock, err := server.AcquireInstanceLock(server.InstanceLockPath(a.getenv))
	if err != nil {
		var running *server.InstanceRunningError
		if errors.As(err, &running) {
			return &exitError{exitUsage, err}
		}
		return err
	}
	defer lock.Release()

	st, err := a.newStack(ctx, stackOptions{
		model: &s.model, kv: &s.kv, recovery: &s.recovery, faults: &s.faults,
		sessions: s.server.Sessions, queue: s.server.Queue, tokens: s.server.Tokens,
		toolMemory: s.server.ToolMemory,
	}, logger.Printf, logger.Line, func(err error) { end(fmt.Errorf("%w: %w", errDevice, err)) })
	if err != nil {
		return startError(ctx, err)
	}
	err = a.listenAndServe(ctx, s, st, logger)
	if err != nil {
		st.close(ctx)
	}
	return startError(ctx, err)
}

// startError turns the interruption of a start into a silent exit.
func startError(ctx context.Context, err error) error {
	if err != nil && errors.Is(context.Cause(ctx), errSignalled) && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// watchSignals ends the context at the first SIGINT or SIGTERM and the process at
// the second. The result stops the watching.
func watchSignals(end context.CancelCauseFunc) (stop func()) {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	done := make(chan struct{})
	go func() {
		for n := 0; ; n++ {
			select {
			case sig := <-signals:
				if n > 0 {
					os.Exit(exitInterrupted)
				}
				end(fmt.Errorf("%w: %v", errSignalled, sig))
			case <-done:
				return
			}
		}
	}()
	return func() {
		signal.Stop(signals)
		close(done)
	}
}

// callMemory is what the server remembers tool calls with; nil: with nothing.
func (s *serveSettings) callMemory(m *replay.Memory) server.CallMemory {
	switch {
	case s.server.NoToolReplay:
		return nil
	case s.faults.Has(unsafeForgetCalls):
		return forgetful{m}
	}
	return m
}

// listenAndServe binds the address, serves until ctx ends, and shuts down.
func (a *app) listenAndServe(ctx context.Context, s *serveSettings, st *stack, logger *server.Logger) error {
	cfg := server.Config{
		Scheduler: st.sched, CacheProblem: st.cacheProblem,
		Model: server.ModelInfo{
			ID: st.id, Name: st.model.Name, ContextTokens: s.model.Context,
			DefaultTokens: s.server.Tokens, MaxPrefix: st.maxPrefix,
		},
		Version: versionText(), Backend: st.backend, CORS: s.server.CORS, NoUI: s.server.NoUI, Keys: s.keys,
		ThinkingSampling: s.server.ThinkingSampling, Log: logger.Printf, Now: pointClock.Now,
		Unsafe: server.UnsafeOf(s.faults.Has),
	}
	if st.store != nil { // a nil *Store in the interface would not be nil
		cfg.Store = st.store
	}
	cfg.Calls = s.callMemory(st.calls)
	srv, err := server.New(cfg)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp4", net.JoinHostPort(s.server.Host, strconv.Itoa(s.server.Port)))
	if err != nil {
		return err
	}
	port := listener.Addr().(*net.TCPAddr).Port
	if st.store != nil {
		st.store.Announce("http://" + localAddress(s.server.Host, port))
	}
	s.warnOfStrangers(logger)
	if files := server.OpenFileLimit(); server.ConnectionLimit(files) < server.ConnectionLimit(math.MaxUint64) {
		logger.Printf("at most %d connections at a time: the process may open %d files", server.ConnectionLimit(files), files)
	}
	logger.Printf("listening on http://%s", net.JoinHostPort(s.server.Host, strconv.Itoa(port)))

	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(listener) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	return shutDown(context.Cause(ctx), s.server.ShutdownTimeout, srv, st, logger)
}

// openOnPurpose refuses --api-key "$KEY" without a KEY: it would let everybody in.
func (s *serveSettings) openOnPurpose() error {
	origin := s.Lookup("api-key").Origin
	if origin.Layer == config.LayerFlag && s.access.Key == "" {
		return fmt.Errorf("%v: the key is empty; without one everybody may use the server, and so the setting must be absent", origin)
	}
	return nil
}

// warnOfStrangers says who else may use the server, or know its key.
func (s *serveSettings) warnOfStrangers(logger *server.Logger) {
	ip, err := netip.ParseAddr(s.server.Host)
	if local := err != nil || ip.IsLoopback(); !local && len(s.keys) == 0 {
		logger.Printf("warning: --host %s without --api-key: everybody who reaches this address can use the model and empty the cache", s.server.Host)
	}
	if s.Lookup("api-key").Origin.Layer == config.LayerFlag {
		logger.Printf("warning: the process list shows the key of --api-key; DS4_API_KEY or --api-key-file keep it")
	}
}

// localAddress is where a process of this machine reaches a listener.
func localAddress(host string, port int) string {
	ip, err := netip.ParseAddr(host)
	if err != nil || ip.IsUnspecified() { // localhost, or every address
		ip = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return netip.AddrPortFrom(ip, uint16(port)).String()
}

// shutDown ends requests, saves the sessions and closes everything, within the
// time allowed. A save that does not make it costs prefill after the next start
// and nothing else, so it is no failure of the command.
func shutDown(why error, timeout time.Duration, srv *server.Server, st *stack, logger *server.Logger) error {
	logger.Printf("shutting down: %v", why)
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	err := srv.Shutdown(ctx)
	if err = errors.Join(err, st.close(ctx)); err != nil {
		logger.Printf("shutdown: %v", err)
	}
	if errors.Is(why, errDevice) {
		return &exitError{code: exitRestart, err: why}
	}
	logger.Printf("bye")
	return nil
}
