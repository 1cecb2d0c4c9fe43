package config

import (
	"fmt"
	"net/netip"
	"time"
)

// Defaults and limits of the server settings.
const (
	defaultTokens     = 393216
	defaultHost       = "127.0.0.1"
	defaultPort       = 8000
	maxPort           = 65535
	defaultSessions   = 4
	maxSessions       = 256
	defaultQueue      = 64
	maxQueue          = 1 << 16
	defaultShutdown   = 20 * time.Second
	maxShutdown       = time.Hour
	defaultFailures   = 3
	maxFailures       = 1000
	defaultWindow     = 10 * time.Minute
	maxWindow         = 7 * 24 * time.Hour
	defaultToolMemory = 100_000
	maxToolMemory     = 1 << 24
)

// Server describes the HTTP side and the queue behind it.
type Server struct {
	Host            string
	Port            int // 0: any free one
	CORS            bool
	NoUI            bool // no page at GET /
	Sessions        int  // live sessions
	Queue           int  // waiting requests
	Tokens          int  // output cap when the request has none
	ShutdownTimeout time.Duration
	ToolMemory      int  // calls that are remembered by their ids
	NoToolReplay    bool // calls that come back are written anew
	// ThinkingSampling honours a request's sampling parameters in thinking mode too.
	ThinkingSampling bool
}

// AddServer registers the settings of Server.
func (s *Set) AddServer(v *Server) {
	s.String(&v.Host, "host", "", defaultHost, checkHost, "listen on `ADDR`: an IPv4 address or localhost")
	s.Int(&v.Port, "port", "", defaultPort, 0, maxPort, "listen on port `N`; 0 = any free one")
	s.Bool(&v.CORS, "cors", "", false, "add Access-Control headers")
	s.Bool(&v.NoUI, "no-ui", "", false, "do not serve the page at /")
	s.Int(&v.Tokens, "tokens", "n", defaultTokens, 1, maxContext, "at most `N` output tokens when the request has no limit")
	s.Int(&v.Sessions, "sessions", "", defaultSessions, 1, maxSessions, "keep up to `N` sessions in memory, fewer if they do not fit")
	s.Int(&v.Queue, "queue", "", defaultQueue, 1, maxQueue, "refuse requests when `N` are waiting")
	s.Int(&v.ToolMemory, "tool-memory-max-ids", "", defaultToolMemory, 1, maxToolMemory, "remember the text of up to `N` tool calls, so that prompts repeat it exactly")
	s.Bool(&v.NoToolReplay, "disable-exact-dsml-tool-replay", "", false, "remember no tool calls: write those that come back anew")
	s.Duration(&v.ShutdownTimeout, "shutdown-timeout", "", defaultShutdown, 0, maxShutdown, "saving sessions at shutdown takes at most `DUR`")
	s.Bool(&v.ThinkingSampling, "thinking-sampling", "", false, "honour temperature and the like in thinking mode too")
}

func checkHost(host string) error {
	if host == "localhost" {
		return nil
	}
	if addr, err := netip.ParseAddr(host); err != nil || !addr.Is4() {
		return fmt.Errorf("%q is neither an IPv4 address nor localhost", clip(host))
	}
	return nil
}

// Recovery says what happens after failures of the device.
type Recovery struct {
	PrefillFailureLimit int
	InlineRetry         bool
	FailureWindow       time.Duration
	DeviceFailureExit   int // 0: never
}

// AddRecovery registers the settings of Recovery.
func (s *Set) AddRecovery(r *Recovery) {
	s.Int(&r.PrefillFailureLimit, "prefill-failure-limit", "", defaultFailures, 1, maxFailures, "clear a context after `N` consecutive device failures on it")
	s.Bool(&r.InlineRetry, "prefill-inline-retry", "", true, "retry once without the disk cache inside the same request")
	s.Duration(&r.FailureWindow, "prefill-failure-window", "", defaultWindow, time.Second, maxWindow, "forget the failures of a context that was idle for `DUR`")
	s.Int(&r.DeviceFailureExit, "device-failure-exit", "", 0, 0, maxFailures, "exit with code 75 after `N` device failures that a fresh session did not cure; 0 = never")
}
