package server

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

const (
	// logPrefix is what users of the original server search their logs for.
	logPrefix = "ds4-server: "
	// logStamp is MMDD HH:MM:SS in local time.
	logStamp = "0102 15:04:05 "
)

// Logger writes the server's log: one unbuffered write per line, so lines of
// several goroutines never mix and a killed process has lost none. Safe for
// concurrent use.
type Logger struct {
	mu   sync.Mutex
	w    io.Writer
	now  func() time.Time
	line []byte
}

// NewLogger returns a logger that writes to w, normally os.Stderr. now is the clock
// of the stamps; nil means time.Now.
func NewLogger(w io.Writer, now func() time.Time) *Logger {
	if now == nil {
		now = time.Now
	}
	return &Logger{w: w, now: now}
}

// Printf writes one line: stamp, "ds4-server: ", message.
func (l *Logger) Printf(format string, args ...any) {
	l.put(true, fmt.Sprintf(format, args...))
}

// Line writes a line as it is, without stamp and prefix: errors of the backend stand
// alone, as the original prints them.
func (l *Logger) Line(line string) {
	l.put(false, line)
}

// put writes one line. Line breaks inside it are written as \n, so that one message
// stays one line.
func (l *Logger) put(stamp bool, message string) {
	message = strings.TrimRight(message, "\r\n")
	if strings.ContainsAny(message, "\r\n") {
		message = strings.NewReplacer("\n", `\n`, "\r", `\r`).Replace(message)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.line = l.line[:0]
	if stamp {
		l.line = l.now().AppendFormat(l.line, logStamp)
		l.line = append(l.line, logPrefix...)
	}
	l.line = append(l.line, message...)
	l.line = append(l.line, '\n')
	// A log that cannot be written (closed pipe, full disk) must not stop the server.
	_, _ = l.w.Write(l.line)
}
