package server

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestLogger(t *testing.T) {
	var out bytes.Buffer
	l := NewLogger(&out, func() time.Time { return time.Date(2026, 5, 21, 7, 8, 9, 0, time.UTC) })
	l.Printf("chat ctx=%d..%d:%d prompt start", 0, 10, 10)
	l.Line("ds4: Metal graph embed tokens failed: Internal Error (00000001:Internal Error)")
	l.Printf("two\nlines\r\n")
	want := `0521 07:08:09 ds4-server: chat ctx=0..10:10 prompt start
ds4: Metal graph embed tokens failed: Internal Error (00000001:Internal Error)
0521 07:08:09 ds4-server: two\nlines
`
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", out.String(), want)
	}
}

// oneLiner fails unless every write is one whole line.
type oneLiner struct {
	t     *testing.T
	lines int
}

func (o *oneLiner) Write(p []byte) (int, error) {
	if s := string(p); !strings.HasSuffix(s, "\n") || strings.Count(s, "\n") != 1 {
		o.t.Errorf("write %q", s)
	}
	o.lines++
	return len(p), nil
}

func TestLoggerWritesWholeLines(t *testing.T) {
	w := &oneLiner{t: t}
	l := NewLogger(w, nil)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 50 {
				l.Printf("message\n%d", i)
			}
		})
	}
	wg.Wait()
	if w.lines != 400 {
		t.Errorf("%d lines", w.lines)
	}
}

func TestLoggerSurvivesItsWriter(t *testing.T) {
	r, w := io.Pipe()
	r.CloseWithError(errors.New("nobody reads"))
	NewLogger(w, nil).Printf("x")
}
