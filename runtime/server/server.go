// Package server is the HTTP face of the scheduler: OpenAI's chat and plain completions
// and responses, Anthropic's messages, all with and without streaming, the model list,
// health, metrics and the disk cache's inventory.
//
// Promises. Every answer that is not the model's is a JSON error object that says
// what is wrong and where. Everything a client sends is bounded before it is kept. A
// stream's headers leave as soon as the request is admitted and it is never silent for
// longer than the keepalive interval, whatever the model is busy with. A client that
// disconnects or stops reading ends its request, and never holds up another. Prompt
// and answer texts appear in no log line, metric or listing.
//
// With API keys nobody without one gets further than /healthz and the page at /.
//
// It does not: terminate TLS (it is made for the loopback interface, or a proxy), or
// run tools. Malformed HTTP is answered by net/http in plain text before it gets here.
package server

import (
	"context"
	"errors"
	"fmt"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"runtime/debug"
	"sync/atomic"
	"time"

	"ds4/runtime/chat"
	"ds4/runtime/scheduler"
)

// Defaults of Config.
const (
	DefaultKeepalive  = 5 * time.Second
	DefaultWriteStall = 2 * time.Second
)

// Scheduler is what the server needs of *scheduler.Scheduler.
type Scheduler interface {
	Submit(ctx context.Context, r *scheduler.Request) (<-chan scheduler.Event, error)
	CountTokens(ctx context.Context, p chat.Prompt) (int, error)
	Shutdown(ctx context.Context) error
	Health() scheduler.Health
	Stats() scheduler.Stats
	ClearKV(ctx context.Context) error
}

// CallMemory remembers the tool calls that were sampled, by the ids that clients got for
// them. *replay.Memory is one.
type CallMemory interface {
	Lookup(id string) (block []byte, ok bool)
	Remember(ids []string, block []byte)
	Clear()
}

// Config of a server. Scheduler and Model are required.
type Config struct {
	Scheduler Scheduler
	Store     Store // nil without a disk cache
	// CacheProblem says why the disk cache that was asked for is not used; the
	// server then reports itself as degraded.
	CacheProblem string
	Calls        CallMemory // nil: tool calls are not remembered
	Model        ModelInfo
	Version      string // of the program, for metrics
	Backend      string // driver and kernels, for metrics; may be empty
	CORS         bool   // let web pages of any origin use the server
	NoUI         bool   // no page at GET /
	// Keys are the API keys that are allowed in; without any, everybody is.
	Keys []string
	// Connections are open at most, idle ones included; 0 means as many as the limit
	// on open files allows.
	Connections int
	// ThinkingSampling honours temperature and the like in thinking mode too;
	// otherwise the model's own defaults are used there.
	ThinkingSampling bool
	Keepalive        time.Duration // longest silence of a stream, default DefaultKeepalive
	WriteStall       time.Duration // a client that takes nothing for so long is gone, default DefaultWriteStall
	Log              func(format string, args ...any)
	Now              func() time.Time
	Unsafe           Unsafe
}

// Server answers HTTP requests. Make it with New.
type Server struct {
	cfg         Config
	http        *http.Server
	routes      map[string]map[string]handler // path, method
	handler     http.Handler
	metrics     *metrics
	startID     string // tells the ids of this process from those of the one before
	completions atomic.Uint64
	stopping    atomic.Bool
	bodies      bodyBudget
	keys        keyring
	random      func([]byte) // for ids
	jail        jail
	connections *connections
}

// handler answers one request. An error that it returns is sent to the client, so it
// must not have written anything then, except when the client is gone.
type handler func(http.ResponseWriter, *http.Request) error

// New returns a server that is ready to Serve.
func New(cfg Config) (*Server, error) {
	if cfg.Scheduler == nil {
		return nil, errors.New("server: no scheduler")
	}
	if cfg.Model.ID == "" || cfg.Model.ContextTokens <= 0 {
		return nil, fmt.Errorf("server: incomplete model: id %q, context %d", cfg.Model.ID, cfg.Model.ContextTokens)
	}
	if cfg.Keepalive <= 0 {
		cfg.Keepalive = DefaultKeepalive
	}
	if cfg.Unsafe.NoKeepalive {
		cfg.Keepalive = noKeepalive
	}
	if cfg.WriteStall <= 0 {
		cfg.WriteStall = DefaultWriteStall
	}
	if cfg.Connections <= 0 {
		cfg.Connections = ConnectionLimit(OpenFileLimit())
	}
	if cfg.Log == nil {
		cfg.Log = func(string, ...any) {}
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	s := &Server{cfg: cfg, startID: fmt.Sprintf("%08x", rand.Uint32()), bodies: bodyBudget{most: maxBodiesBytes, trim: debug.FreeOSMemory},
		keys: newKeyring(cfg.Keys), connections: newConnections(cfg.Connections), random: readRandom}
	s.metrics = newMetrics(s)
	s.routes = s.table()
	s.handler = http.HandlerFunc(s.serve)
	s.http = &http.Server{
		Handler:           s.handler,
		MaxHeaderBytes:    maxHeaderBytes,
		ReadHeaderTimeout: readStall,
		IdleTimeout:       idleTimeout,
		ConnState:         s.connections.track,
		ErrorLog:          log.New(errorLog{cfg.Log}, "", 0),
		// OPTIONS * is answered like every other OPTIONS.
		DisableGeneralOptionsHandler: true,
	}
	return s, nil
}

func (s *Server) table() map[string]map[string]handler {
	get := func(h handler) map[string]handler {
		return map[string]handler{http.MethodGet: h, http.MethodHead: h}
	}
	post := func(h handler) map[string]handler {
		return map[string]handler{http.MethodPost: h}
	}
	t := map[string]map[string]handler{
		modelListPath:                  get(s.handleModels),
		"/v1/chat/completions":         post(s.handleChat),
		"/v1/completions":              post(s.handleCompletions),
		"/v1/responses":                post(s.handleResponses),
		messagesPath:                   post(s.handleMessages),
		messagesPath + "/count_tokens": post(s.handleCountTokens),
		"/healthz":                     get(s.handleHealth),
		"/metrics":                     get(s.metrics.handle),
		"/v1/sessions":                 get(s.handleSessions),
		"/v1/kv":                       get(s.handleKV),
		"/v1/kv/clear":                 post(s.handleKVClear),
		"/v1/kv/purge":                 post(s.handleKVPurge),
		"/v1/kv/restore":               post(s.handleKVRestore),
	}
	for _, m := range s.cfg.Model.models() {
		t[modelListPath+"/"+m.ID] = get(s.handleModel(m))
	}
	if !s.cfg.NoUI {
		t["/"] = get(handlePage)
	}
	return t
}

// Handler returns the server's routes, for use without Serve.
func (s *Server) Handler() http.Handler { return s.handler }

// Serve answers connections of l until Shutdown; then it returns nil at once, while
// Shutdown still waits for requests. It closes l.
func (s *Server) Serve(l net.Listener) error {
	if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("server: %w", err)
	}
	return nil
}

// Shutdown closes the listener, ends waiting and running requests, lets the scheduler
// save what it holds, and waits for the clients to be told. When ctx ends first, what
// is left is cut off. New requests on open connections get 503 meanwhile.
func (s *Server) Shutdown(ctx context.Context) error {
	s.stopping.Store(true)
	clients := make(chan error, 1)
	go func() { clients <- s.http.Shutdown(ctx) }() // closes the listener first, then waits
	saved := s.cfg.Scheduler.Shutdown(ctx)
	err := <-clients
	if err != nil {
		_ = s.http.Close() // cancels the context of every request that is left
		err = fmt.Errorf("server: requests cut off: %w", err)
	}
	return errors.Join(saved, err)
}

// serve routes one request and sends what went wrong.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	rec := &recorder{ResponseWriter: w, shape: errorShape(r.URL.Path)}
	begin := s.cfg.Now()
	route, err := s.route(rec, s.cfg.Unsafe.hearing(r))
	if err != nil {
		s.answerError(rec, err)
	}
	s.metrics.observe(route, rec.status, s.cfg.Now().Sub(begin))
}

// route runs the handler and returns the path that it is known by.
func (s *Server) route(w http.ResponseWriter, r *http.Request) (route string, err error) {
	defer func() {
		if p := recover(); p != nil && p != http.ErrAbortHandler {
			s.logPanic(route, p)
			err = errPanic
		}
	}()
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	if s.cfg.CORS {
		h.Set("Access-Control-Allow-Origin", "*")
		h.Set("Access-Control-Allow-Methods", "GET, POST, OPTIONS")
		h.Set("Access-Control-Allow-Headers", "*")
	}
	if r.Method == http.MethodOptions {
		w.WriteHeader(http.StatusNoContent)
		return "OPTIONS", nil
	}
	if err := s.authorize(w, r); err != nil {
		return "unauthorized", err
	}
	methods, known := s.routes[r.URL.Path]
	if !known {
		return "unknown", notFound(r.URL.Path)
	}
	route = r.URL.Path
	handle, known := methods[r.Method]
	switch {
	case !known:
		return route, notAllowed(methods, r.Method)
	case s.stopping.Load() && r.Method == http.MethodPost:
		h.Set("Connection", "close")
		return route, shuttingDown()
	}
	if err := s.sameOrigin(r); err != nil {
		return route, err
	}
	return route, handle(w, r)
}
