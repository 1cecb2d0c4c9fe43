package machine

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// wait watches how long the threads of the server were ready to run and had no
// core, because others were on it. That is what a disturbed measurement has and a
// quiet one has not, however busy the machine is with things on other cores.
type wait struct {
	pid   int
	at    time.Time
	ns    float64
	known bool
}

func startWait(pid int) *wait {
	w := &wait{pid: pid, at: time.Now()}
	if pid > 0 {
		w.ns, w.known = readWait(pid)
	}
	return w
}

// percent is the waiting of all threads together since startWait, of the time
// that passed; ok is false if that is not known.
func (w *wait) percent() (v float64, ok bool) {
	if !w.known {
		return 0, false
	}
	ns, ok := readWait(w.pid)
	passed := float64(time.Since(w.at).Nanoseconds())
	if !ok || passed <= 0 {
		return 0, false
	}
	return max(100*(ns-w.ns)/passed, 0), true // a thread that ended takes its count with it
}

// readWait adds the waiting of all threads of a process, in nanoseconds.
func readWait(pid int) (ns float64, ok bool) {
	files, err := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/task/*/schedstat")
	if err != nil {
		return 0, false
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			continue // the thread has just ended
		}
		if v, good := parseWait(string(text)); good {
			ns, ok = ns+v, true
		}
	}
	return ns, ok
}

// parseWait reads the second number of a schedstat file: time on a core, time
// waiting for one, number of turns.
func parseWait(text string) (ns float64, ok bool) {
	f := strings.Fields(text)
	if len(f) != 3 {
		return 0, false
	}
	ns, err := strconv.ParseFloat(f[1], 64)
	return ns, err == nil && ns >= 0
}
