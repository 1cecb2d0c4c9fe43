package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"ds4/faults/proc"
	"ds4/reports"
	"ds4/scenarios/turns"
)

// subject is one server of a comparison, as --a or --b names it.
type subject struct {
	text   string // as it was given
	target string // URL of a server that runs already
	env    []string
	path   string
	args   []string
	ds4    bool // a ds4 server: it chooses its port itself and says where it listens
}

// portWord stands in a command line for the port that the server shall use.
const portWord = "$PORT"

// parseSubject reads the value of --a or --b: a URL, a ds4 binary with or without
// "serve" and flags, or the command line of any server with $PORT in it. Leading
// NAME=VALUE words are for its environment.
func parseSubject(text string) (*subject, error) {
	s := &subject{text: text}
	if u, err := url.Parse(text); err == nil && u.Host != "" && (u.Scheme == "http" || u.Scheme == "https") {
		s.target = text
		return s, nil
	}
	words, err := splitWords(text)
	if err != nil {
		return nil, err
	}
	for len(words) > 0 && isAssignment(words[0]) {
		s.env, words = append(s.env, words[0]), words[1:]
	}
	if len(words) == 0 {
		return nil, errors.New("no command")
	}
	if s.path, err = exec.LookPath(words[0]); err != nil {
		return nil, err
	}
	if s.path, err = filepath.Abs(s.path); err != nil { // servers start in directories of their own
		return nil, err
	}
	s.args = words[1:]
	if len(s.args) == 0 {
		s.args = []string{"serve"}
	}
	hasPort := slices.ContainsFunc(words, func(w string) bool { return strings.Contains(w, portWord) })
	s.ds4 = s.args[0] == "serve" && !hasPort
	if !s.ds4 && !hasPort {
		return nil, fmt.Errorf("%q is no ds4 binary and no command line with %s in it", text, portWord)
	}
	return s, nil
}

// isAssignment says that a word is NAME=VALUE.
func isAssignment(word string) bool {
	name, _, ok := strings.Cut(word, "=")
	return ok && name != "" && strings.IndexFunc(name, func(r rune) bool {
		return r != '_' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
	}) < 0
}

// commandLine is what is started for a measurement with so much context.
func (s *subject) commandLine(contextTokens, port int) []string {
	if s.ds4 {
		args := slices.Clone(s.args)
		for _, f := range [][2]string{{"--host", "127.0.0.1"}, {"--port", "0"}, {"--ctx", strconv.Itoa(contextTokens)}} {
			if !hasFlag(s.args, f[0]) {
				args = append(args, f[0], f[1])
			}
		}
		return args
	}
	args := make([]string, len(s.args))
	for i, a := range s.args {
		args[i] = strings.ReplaceAll(a, portWord, strconv.Itoa(port))
	}
	return args
}

// hasFlag says that a command line sets a flag.
func hasFlag(args []string, flag string) bool {
	return slices.ContainsFunc(args, func(a string) bool { return a == flag || strings.HasPrefix(a, flag+"=") })
}

// record describes the server for the results file.
func (s *subject) record(ctx context.Context, contextTokens int) reports.Server {
	srv := server{path: s.path, env: s.env, target: s.target}
	if s.target != "" {
		return srv.record(ctx, "", nil)
	}
	if !s.ds4 {
		return reports.Server{Path: s.path, Args: s.args}
	}
	model := ""
	for i, a := range s.args {
		if value, ok := strings.CutPrefix(a, "--model="); ok {
			model = value
		} else if (a == "--model" || a == "-m") && i+1 < len(s.args) {
			model = s.args[i+1]
		}
	}
	return srv.record(ctx, model, s.commandLine(contextTokens, 0))
}

// start starts the server and returns when it answers.
func (s *subject) start(ctx context.Context, contextTokens int) (*turns.Server, error) {
	if s.target != "" {
		return &turns.Server{URL: s.target, Stop: func() {}}, nil
	}
	dir, err := os.MkdirTemp("", "ds4bench-compare-")
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", s.text, err)
	}
	port := 0
	if !s.ds4 {
		if port, err = freePort(); err != nil {
			os.RemoveAll(dir)
			return nil, fmt.Errorf("start %s: %w", s.text, err)
		}
	}
	// A lock file of its own, so that a server that somebody uses is no obstacle.
	env := append([]string{"DS4_LOCK_FILE=" + filepath.Join(dir, "lock"), "PORT=" + strconv.Itoa(port)}, s.env...)
	process, err := proc.Start(proc.Config{Path: s.path, Args: s.commandLine(contextTokens, port), Env: env, Log: proc.NewLog(nil)})
	if err != nil {
		os.RemoveAll(dir)
		return nil, fmt.Errorf("start %s: %w", s.text, err)
	}
	stop := func() {
		process.Close()
		os.RemoveAll(dir)
	}
	base, err := s.waitReady(ctx, process, port)
	if err != nil {
		stop()
		return nil, fmt.Errorf("start %s: %w", s.text, err)
	}
	return &turns.Server{URL: base, PID: process.PID(), Stop: stop}, nil
}

func (s *subject) waitReady(ctx context.Context, process *proc.Process, port int) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	if s.ds4 {
		return process.WaitReady(ctx)
	}
	base := "http://" + net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	client := &http.Client{Transport: &http.Transport{Proxy: nil, DisableKeepAlives: true}, Timeout: 5 * time.Second}
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/v1/models", http.NoBody)
		if err != nil {
			return "", err
		}
		resp, err := client.Do(req)
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return base, nil
			}
			err = fmt.Errorf("GET /v1/models: status %d", resp.StatusCode)
		}
		select {
		case <-process.Done():
			exit, _ := process.Exited()
			return "", fmt.Errorf("it ended with %s before it answered", exit)
		case <-ctx.Done():
			return "", fmt.Errorf("no answer at %s: %w", base, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// freePort finds a port that nobody listens on at this moment.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}
