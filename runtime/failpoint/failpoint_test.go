package failpoint

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	ptSync  = New("kv.fsync")
	ptRead  = New("kv.payload.read")
	ptWrite = New("kv.write.payload")
)

// arm installs rules for one test and returns the lines they log.
func arm(t *testing.T, texts ...string) func() []string {
	t.Helper()
	var rules []Rule
	for _, s := range texts {
		r, err := Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		rules = append(rules, r)
	}
	var mu sync.Mutex
	var lines []string
	err := Arm(rules, func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		lines = append(lines, fmt.Sprintf(format, args...))
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(Disarm)
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(lines)
	}
}

// fires returns which of n hits return an error.
func fires(p *Point, n int, s Scope) (list []int) {
	for i := 1; i <= n; i++ {
		if p.Hit(s) != nil {
			list = append(list, i)
		}
	}
	return list
}

func TestTriggers(t *testing.T) {
	for _, c := range []struct {
		rule string
		want []int
	}{
		{"kv.fsync=eio", []int{1, 2, 3, 4, 5, 6}},
		{"kv.fsync=eio:nth=3", []int{3}},
		{"kv.fsync=eio:every=2", []int{2, 4, 6}},
		{"kv.fsync=eio:every=2:times=2", []int{2, 4}},
		{"kv.fsync=eio:times=2", []int{1, 2}},
		{"kv.fsync=eio:match=disk", []int{1, 2, 3, 4, 5, 6}},
		{"kv.fsync=eio:match=cold", nil},
		{"kv.fsync=eio:match=entry", []int{1, 2, 3, 4, 5, 6}},
		{"kv.fsync=eio:match=entry(ab)", []int{1, 2, 3, 4, 5, 6}},
		{"kv.fsync=eio:match=entry(b)", nil},
		{"kv.fsync=eio:match=range", nil},
		{"kv.fsync(n=4)=eio", []int{1, 2, 3, 4, 5, 6}},
		{"kv.fsync(n=5)=eio", nil},
		{"kv.fsync(after=4)=eio", []int{1, 2, 3, 4, 5, 6}},
		{"kv.fsync(after=5)=eio", nil},
	} {
		arm(t, c.rule)
		if got := fires(ptSync, 6, Scope{Source: "disk", Entry: "abc", N: 4}); !slices.Equal(got, c.want) {
			t.Errorf("%s fired at hits %v, want %v", c.rule, got, c.want)
		}
	}
}

func TestProbIsSeeded(t *testing.T) {
	arm(t, "kv.fsync=eio:prob=0.3,42")
	first := fires(ptSync, 200, Scope{})
	arm(t, "kv.fsync=eio:prob=0.3,42")
	if again := fires(ptSync, 200, Scope{}); !slices.Equal(first, again) {
		t.Errorf("one seed, two sequences: %v, %v", first, again)
	}
	if n := len(first); n < 30 || n > 90 {
		t.Errorf("probability 0.3 fired %d times of 200", n)
	}
}

func TestErrors(t *testing.T) {
	const seed = "Internal Error (00000001:Internal Error)"
	arm(t, "kv.fsync=err("+seed+")", "kv.write.payload=enospc", "kv.payload.read=short(25%)")
	if err := ptSync.Hit(Scope{}); err == nil || err.Error() != seed {
		t.Errorf("err: %v, want exactly %q", err, seed)
	}
	err := ptWrite.Hit(Scope{})
	if !errors.Is(err, syscall.ENOSPC) || err.Error() != "kv.write.payload: no space left on device" {
		t.Errorf("enospc: %v", err)
	}
	data, err := ptRead.Bytes(Scope{}, make([]byte, 100))
	if len(data) != 25 || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("short: %d bytes, %v", len(data), err)
	}
}

func TestBytes(t *testing.T) {
	arm(t, "kv.payload.read=flip(105):times=1", "kv.payload.read=zero(95,7)")
	read := func(at int64) string {
		data, err := ptRead.Bytes(Scope{N: at}, []byte("abcdefghij"))
		if err != nil {
			t.Fatal(err)
		}
		return strings.ReplaceAll(string(data), "\x00", "0")
	}
	// The flip comes first and fires once; bytes outside of a rule's offsets are
	// not hits of it.
	for _, c := range []struct {
		at   int64
		want string
	}{{0, "abcdefghij"}, {100, "abcdegghij"}, {100, "00cdefghij"}, {90, "abcde00000"}, {102, "abcdefghij"}} {
		if got := read(c.at); got != c.want {
			t.Errorf("read at %d: %q, want %q", c.at, got, c.want)
		}
	}
	if st := Status(); st[0].Fired != 1 || st[1].Fired != 2 {
		t.Errorf("status %+v", st)
	}
}

func TestSplit(t *testing.T) {
	if n := ptWrite.Split(Scope{}, 100); n != 100 {
		t.Errorf("off: %d", n)
	}
	arm(t, "kv.write.payload(after=130)=enospc")
	for _, c := range []struct{ at, n, want int }{{0, 100, 100}, {100, 100, 30}, {130, 10, 10}, {30, 100, 100}} {
		if got := ptWrite.Split(Scope{N: int64(c.at)}, c.n); got != c.want {
			t.Errorf("Split at %d of %d: %d, want %d", c.at, c.n, got, c.want)
		}
	}
}

// TestLinesComeFirst: the line of a fire must be out when the process dies.
func TestLinesComeFirst(t *testing.T) {
	lines := arm(t, "kv.fsync=kill9:nth=2", "kv.write.payload=panic")
	killed := ""
	defer func(k func()) { kill = k }(kill)
	kill = func() { killed = lines()[len(lines())-1] }
	fires(ptSync, 3, Scope{})
	if want := `fault fired rule="kv.fsync=kill9:nth=2" n=1`; killed != want {
		t.Errorf("before the kill the last line is %q, want %q", killed, want)
	}
	func() {
		defer func() {
			if r := recover(); fmt.Sprint(r) != "failpoint: kv.write.payload=panic" {
				t.Errorf("panic: %v", r)
			}
		}()
		_ = ptWrite.Hit(Scope{})
	}()
	want := []string{`fault armed rule="kv.fsync=kill9:nth=2"`, `fault armed rule="kv.write.payload=panic"`,
		`fault fired rule="kv.fsync=kill9:nth=2" n=1`, `fault fired rule="kv.write.payload=panic" n=1`}
	if got := lines(); !slices.Equal(got, want) {
		t.Errorf("lines:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestDisarmWakes(t *testing.T) {
	arm(t, "kv.fsync=hang", "kv.write.payload=delay(1h)")
	done := make(chan error, 2)
	go func() { done <- ptSync.Hit(Scope{}) }()
	go func() { done <- ptWrite.Hit(Scope{}) }()
	select {
	case <-done:
		t.Fatal("did not stand still")
	case <-time.After(20 * time.Millisecond):
	}
	Disarm()
	for range 2 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func TestArmRefuses(t *testing.T) {
	for text, want := range map[string]error{
		"prefill.embed=err": ErrNotHere, // a device point
		"session.reset=eio": ErrNotHere, // in the catalogue, not in this program
	} {
		r, err := Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if err := Arm([]Rule{r}, t.Logf); !errors.Is(err, want) {
			t.Errorf("Arm(%s): %v", text, err)
		}
	}
	if err := Arm([]Rule{{Point: "kv.fsync", Action: Action{Kind: KindErr, Text: "a("}}}, t.Logf); !errors.Is(err, ErrSyntax) {
		t.Errorf("a rule that does not print back: %v", err)
	}
	if ptSync.Hit(Scope{}) != nil {
		t.Error("a refused Arm left something armed")
	}
}

// TestPointsOfTheDocs: docs/faults.md lists every point, with the words of the
// catalogue, and no other.
func TestPointsOfTheDocs(t *testing.T) {
	text, err := os.ReadFile("../../docs/faults.md")
	if err != nil {
		t.Fatal(err)
	}
	var want strings.Builder
	for _, in := range Catalogue() {
		fmt.Fprintf(&want, "| `%s` | %s |\n", in.Name, in.Doc)
	}
	if !strings.Contains(string(text), "\n|---|---|\n"+want.String()+"\n") {
		t.Errorf("the table of points should be\n%s", want.String())
	}
}

func TestNewWantsCatalogue(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("no panic for a name outside of the catalogue")
		}
	}()
	New("kv.nonsense")
}

func TestOffAllocatesNothing(t *testing.T) {
	data := make([]byte, 8)
	if n := testing.AllocsPerRun(100, func() {
		_ = ptSync.Hit(Scope{Source: "disk"})
		_, _ = ptRead.Bytes(Scope{}, data)
	}); n != 0 {
		t.Errorf("%v allocations while off", n)
	}
}

func BenchmarkHitOff(b *testing.B) {
	for b.Loop() {
		_ = ptSync.Hit(Scope{Source: "disk", Entry: "x"})
	}
}

// A clock is right until its rule fires, and wrong by the same time ever after.
func TestClockJumpsOnce(t *testing.T) {
	t.Cleanup(Disarm)
	clock := New("clock.jump")
	off := func() time.Duration { return time.Until(clock.Now()).Round(time.Hour) }
	if d := off(); d != 0 {
		t.Errorf("no rule, and the clock is wrong by %v", d)
	}
	r, err := Parse("clock.jump=skew(-48h):nth=3")
	if err != nil {
		t.Fatal(err)
	}
	fired := 0
	if err := Arm([]Rule{r}, func(format string, _ ...any) { fired++ }); err != nil {
		t.Fatal(err)
	}
	for i, want := range []time.Duration{0, 0, -48 * time.Hour, -48 * time.Hour, -48 * time.Hour} {
		if d := off(); d != want {
			t.Errorf("look %d: wrong by %v, want %v", i+1, d, want)
		}
	}
	if fired != 2 { // armed, and fired
		t.Errorf("%d lines in the log, want 2", fired)
	}
	Disarm()
	if d := off(); d != 0 {
		t.Errorf("disarmed, and the clock is wrong by %v", d)
	}
}
