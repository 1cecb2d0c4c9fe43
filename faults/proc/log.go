package proc

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"regexp"
	"strings"
	"sync"
	"time"
)

// Limits on what is kept of a process's output.
const (
	maxLines     = 200_000
	maxLineBytes = 64 << 10
)

// Line is one line of output.
type Line struct {
	At   time.Time // when its end was read
	Text string    // without the end, cut at a limit
}

// Log collects the output of a process, and of its successors, line by line. It
// is safe for concurrent use.
type Log struct {
	mu      sync.Mutex
	lines   []Line
	dropped int           // lines forgotten at the front, once there were too many
	changed chan struct{} // closed and replaced when a line comes
	copy    io.Writer     // may be nil
}

// NewLog returns an empty log. Every line is also written to copy, if it is not
// nil, with its time.
func NewLog(copy io.Writer) *Log { return &Log{changed: make(chan struct{}), copy: copy} }

// Add adds a line that somebody else has to say, at its place among those of the
// process.
func (l *Log) Add(text string) { l.add(text) }

func (l *Log) add(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.lines) == maxLines {
		n := maxLines / 2
		l.lines = append(l.lines[:0], l.lines[n:]...)
		l.dropped += n
	}
	line := Line{At: time.Now(), Text: text}
	l.lines = append(l.lines, line)
	if l.copy != nil {
		fmt.Fprintf(l.copy, "%s %s\n", line.At.Format("15:04:05.000"), text)
	}
	close(l.changed)
	l.changed = make(chan struct{})
}

// Len is the number of lines so far, forgotten ones included. It is a position
// for Since and Wait.
func (l *Log) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.dropped + len(l.lines)
}

// Since returns the lines from a position on that are still kept.
func (l *Log) Since(from int) []Line {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]Line(nil), l.lines[min(max(from-l.dropped, 0), len(l.lines)):]...)
}

// Wait returns the first line from a position on that matches.
func (l *Log) Wait(ctx context.Context, from int, re *regexp.Regexp) (Line, error) {
	for {
		l.mu.Lock()
		changed := l.changed
		l.mu.Unlock()
		lines := l.Since(from)
		for _, line := range lines {
			if re.MatchString(line.Text) {
				return line, nil
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return Line{}, fmt.Errorf("proc: wait for a log line like %q: %w", re, ctx.Err())
		}
	}
}

// Tail returns the text of the last n lines.
func (l *Log) Tail(n int) string { return l.TailBefore(l.Len(), n) }

// TailBefore returns the text of the last n lines before a position that are still kept.
func (l *Log) TailBefore(end, n int) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := l.lines[:min(max(end-l.dropped, 0), len(l.lines))]
	var b strings.Builder
	for _, line := range lines[max(len(lines)-n, 0):] {
		b.WriteString(line.Text + "\n")
	}
	return b.String()
}

// lineWriter splits a process's output into lines of a Log.
type lineWriter struct {
	log  *Log
	rest []byte
}

func (w *lineWriter) Write(p []byte) (int, error) {
	n := len(p)
	for {
		line, after, found := bytes.Cut(p, []byte("\n"))
		if room := maxLineBytes - len(w.rest); len(line) > room {
			line = line[:room]
		}
		w.rest = append(w.rest, line...)
		if !found {
			return n, nil
		}
		w.log.add(strings.TrimSuffix(string(w.rest), "\r"))
		w.rest, p = w.rest[:0], after
	}
}

// flush adds a last line that has no end: what a killed process was writing.
func (w *lineWriter) flush() {
	if len(w.rest) > 0 {
		w.log.add(string(w.rest))
		w.rest = nil
	}
}
