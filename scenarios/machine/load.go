package machine

import (
	"os"
	"strconv"
	"strings"
)

// load watches how much of the machine's CPU time goes to others than the server
// and this process. It knows only Linux; elsewhere it knows nothing.
type load struct {
	pid         int
	total, busy float64 // of the machine, in ticks
	ours        float64
	known       bool
}

func startLoad(serverPID int) *load {
	l := &load{pid: serverPID}
	if serverPID > 0 {
		l.total, l.busy, l.ours, l.known = readLoad(serverPID)
	}
	return l
}

// percent is what others used since startLoad; ok is false if that is not known.
func (l *load) percent() (v float64, ok bool) {
	if !l.known {
		return 0, false
	}
	total, busy, ours, ok := readLoad(l.pid)
	return 100 * othersShare(total-l.total, busy-l.busy, ours-l.ours), ok
}

// othersShare is the part of total that was busy and not ours.
func othersShare(total, busy, ours float64) float64 {
	if total <= 0 {
		return 0
	}
	return max(busy-ours, 0) / total
}

func readLoad(pid int) (total, busy, ours float64, ok bool) {
	machine, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0, 0, false
	}
	total, busy, ok = parseMachine(string(machine))
	for _, p := range []string{strconv.Itoa(pid), "self"} {
		text, err := os.ReadFile("/proc/" + p + "/stat")
		if err != nil {
			return 0, 0, 0, false
		}
		ticks, good := parseProcess(string(text))
		ours, ok = ours+ticks, ok && good
	}
	return total, busy, ours, ok
}

// parseMachine reads the first line of /proc/stat: user, nice, system, idle,
// iowait, irq, softirq, steal; the guest times after them are part of user.
func parseMachine(text string) (total, busy float64, ok bool) {
	first, _, _ := strings.Cut(text, "\n")
	f := strings.Fields(first)
	if len(f) < 9 || f[0] != "cpu" {
		return 0, 0, false
	}
	for i, s := range f[1:9] {
		v, err := strconv.ParseFloat(s, 64)
		if err != nil {
			return 0, 0, false
		}
		total += v
		if i != 3 && i != 4 { // idle, iowait
			busy += v
		}
	}
	return total, busy, true
}

// parseProcess reads user and system time from /proc/PID/stat. The program's name
// in it may hold spaces and brackets, so counting begins after the last one.
func parseProcess(text string) (ticks float64, ok bool) {
	f := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	const utime, stime = 11, 12
	if len(f) <= stime {
		return 0, false
	}
	user, err1 := strconv.ParseFloat(f[utime], 64)
	system, err2 := strconv.ParseFloat(f[stime], 64)
	return user + system, err1 == nil && err2 == nil
}
