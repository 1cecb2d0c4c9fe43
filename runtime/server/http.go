package server

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"time"
)

// recorder remembers whether and how a request was answered.
type recorder struct {
	http.ResponseWriter
	status int                 // 0: nothing was sent
	shape  func(*apiError) any // what an error looks like in the protocol of the path
}

func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(p []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	return r.ResponseWriter.Write(p)
}

// Unwrap lets http.ResponseController reach the connection.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// answerError sends an error if that is still possible; else it cuts the connection,
// so that half an answer does not look whole.
func (s *Server) answerError(rec *recorder, err error) {
	e := fromScheduler(err)
	if e == nil || rec.status != 0 {
		panic(http.ErrAbortHandler)
	}
	if e.status == http.StatusInternalServerError && e.Code == "" && !errors.Is(err, errPanic) {
		s.cfg.Log("request failed: %v", err)
	}
	if err := s.writeError(rec, e, rec.shape); err != nil {
		panic(http.ErrAbortHandler)
	}
}

// logPanic reports a panic of a handler, one line of the stack at a time.
func (s *Server) logPanic(route string, p any) {
	s.cfg.Log("panic in %s: %v", route, p)
	for line := range strings.Lines(string(debug.Stack())) {
		s.cfg.Log("%s", strings.TrimRight(line, "\n"))
	}
}

// writeJSON answers with one JSON document.
func (s *Server) writeJSON(w http.ResponseWriter, status int, v any) error {
	body := append(appendJSON(nil, v), '\n')
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", fmt.Sprint(len(body)))
	w.WriteHeader(status)
	return writePieces(w, http.NewResponseController(w), s.cfg.WriteStall, body)
}

// limitLeftBody bounds how long net/http reads on for the rest of a body that the
// handler did not read: without it, for ever, before the answer leaves. The deadline is
// gone with the request.
func limitLeftBody(w http.ResponseWriter) {
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(leftBodyStall))
}

// readBody reads a request's body of at most limit bytes. Memory grows with what
// arrives, not with what the headers announce, and that of all bodies together is
// bounded: the caller must call release when it no longer needs the body.
func (s *Server) readBody(w http.ResponseWriter, r *http.Request, limit int64) (body []byte, release func(), err error) {
	share := s.bodies.open()
	body, err = s.readWhole(w, r, limit, share)
	if err != nil {
		share.release()
		return nil, nil, err
	}
	return body, share.release, nil
}

func (s *Server) readWhole(w http.ResponseWriter, r *http.Request, limit int64, share *bodyShare) ([]byte, error) {
	if e := r.Header.Get("Content-Encoding"); e != "" && !strings.EqualFold(e, "identity") {
		w.Header().Set("Connection", "close")
		return nil, &apiError{status: http.StatusUnsupportedMediaType, Type: typeInvalid,
			Message: fmt.Sprintf("a body with Content-Encoding %.32q is not read; send it as it is", e)}
	}
	if r.ContentLength > limit {
		w.Header().Set("Connection", "close")
		return nil, bodyTooLarge(limit)
	}
	rc := http.NewResponseController(w)
	body, err := io.ReadAll(&patientReader{
		body: http.MaxBytesReader(w, r.Body, limit), rc: rc, end: time.Now().Add(maxBodyDuration), share: share,
	})
	if err != nil {
		limitLeftBody(w)
	} else if rerr := rc.SetReadDeadline(time.Time{}); rerr != nil && !errors.Is(rerr, http.ErrNotSupported) {
		// The next read is net/http's own, which watches for a disconnect and would take
		// an old deadline for one. It happens to clear it itself today.
		err = rerr
	}
	var tooLarge *http.MaxBytesError
	switch {
	case err == nil:
		return body, nil
	case errors.As(err, &tooLarge):
		return nil, bodyTooLarge(limit)
	case errors.Is(err, errBodies):
		w.Header().Set("Connection", "close")
		return nil, &apiError{
			status: http.StatusServiceUnavailable, retryAfter: retryBodies, Type: typeServer,
			Message: fmt.Sprintf("requests that arrive now are larger than %d MiB together; try again", maxBodiesBytes>>20),
		}
	case errors.Is(err, os.ErrDeadlineExceeded):
		w.Header().Set("Connection", "close")
		return nil, badRequest("bad HTTP request: the body did not arrive in time")
	case r.Context().Err() != nil:
		return nil, fmt.Errorf("%w: %w", errClientGone, err)
	}
	w.Header().Set("Connection", "close")
	return nil, badRequest("bad HTTP request: %v", err)
}

// patientReader lets every read take readStall, and all of them together until end.
// What was read counts in share.
type patientReader struct {
	body  io.Reader
	rc    *http.ResponseController
	end   time.Time
	share *bodyShare
}

func (p *patientReader) Read(b []byte) (int, error) {
	deadline := time.Now().Add(readStall)
	if deadline.After(p.end) {
		deadline = p.end
	}
	if err := p.rc.SetReadDeadline(deadline); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return 0, err
	}
	n, err := p.body.Read(b)
	if !p.share.add(int64(n)) {
		return n, errBodies
	}
	return n, err
}

func bodyTooLarge(limit int64) *apiError {
	return &apiError{
		status: http.StatusRequestEntityTooLarge, Type: typeInvalid,
		Message: "request body is larger than " + formatLimit(limit),
	}
}

// formatLimit prints a limit in the largest unit that it is a multiple of.
func formatLimit(n int64) string {
	if n%(1<<20) == 0 {
		return fmt.Sprintf("%d MiB", n>>20)
	}
	return fmt.Sprintf("%d KiB", n>>10)
}

func notAllowed(methods map[string]handler, method string) *apiError {
	allow := append(slices.Sorted(maps.Keys(methods)), http.MethodOptions)
	return &apiError{
		status: http.StatusMethodNotAllowed, Type: typeInvalid, allow: strings.Join(allow, ", "),
		Message: fmt.Sprintf("method %.16s is not allowed here; use %s", method, strings.Join(allow, ", ")),
	}
}

// errorLog carries net/http's complaints into the server's log.
type errorLog struct {
	log func(format string, args ...any)
}

func (e errorLog) Write(p []byte) (int, error) {
	e.log("%s", strings.TrimSpace(string(p)))
	return len(p), nil
}
