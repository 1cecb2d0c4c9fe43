package syscalls

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"ds4/faults"
)

// The numbers of both processors are those that x/sys has for them, whatever this
// test runs on.
func TestNumbers(t *testing.T) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "golang.org/x/sys").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range processors() {
		text, err := os.ReadFile(filepath.Join(string(bytes.TrimSpace(out)), "unix", "zsysnum_linux_"+p.name+".go"))
		if err != nil {
			t.Fatal(err)
		}
		known := map[string]string{}
		for _, m := range regexp.MustCompile(`SYS_([A-Z0-9_]+)\s*=\s*([0-9]+)`).FindAllStringSubmatch(string(text), -1) {
			known[m[1]] = m[2]
		}
		if len(known) < 200 {
			t.Fatalf("%s: %d numbers found", p.name, len(known))
		}
		for i := range calls {
			c := &calls[i]
			got, want := p.number(c), known[strings.ToUpper(c.name)]
			if want == "" {
				want = "-1"
			}
			if strconv.Itoa(got) != want {
				t.Errorf("%s on %s is %d, want %s", c.name, p.name, got, want)
			}
		}
	}
}

// Every operation has a call on every processor, and every call a known operation.
func TestOpsHaveCalls(t *testing.T) {
	for _, p := range processors() {
		for _, op := range Ops() {
			if len(p.watched([]string{op})) < 3 { // those two that are always watched, and one more
				t.Errorf("%s has no call on %s", op, p.name)
			}
		}
	}
	for _, c := range calls {
		for _, op := range c.mayBe() {
			if !slices.Contains(append(Ops(), opMap, opRing), op) {
				t.Errorf("%s: unknown operation %s", c.name, op)
			}
		}
	}
}

func TestParseRule(t *testing.T) {
	for _, good := range []string{
		"write:eio", "any:nth=3:kill9", "write:path=*.kv:nth=3:part=50%:kill9", "rename:part=100%:kill9", "fsync:lie",
		"write:every=2:times=3:short(50%)", "open:err(EMFILE)", "read:flip(3)", "write:prob=0.5,7:zero(1,2)", "create:hang", "mkdir:delay(1s)",
	} {
		r, err := ParseRule(good)
		if err != nil || r.String() != good {
			t.Errorf("%s prints as %s (%v)", good, r, err)
		}
	}
	for bad, want := range map[string]string{
		"rename:flip(1)":         "flip cannot happen to rename",
		"open:lie":               "lie cannot happen to open",
		"read:lie":               "lie cannot happen to read",
		"fsync:part=50%:eio":     "only part=100%",
		"read:part=50%:eio":      "only part=100%",
		"write:part=5:short(1)":  "part and short exclude",
		"write:err(EBOGUS)":      "want the name of an error number",
		"write:err(no such one)": "want the name of an error number",
		"writ:eio":               "unknown operation \"writ\"; known: any open create",
		"write:panic":            "unknown action",
		"write":                  "no action",
	} {
		_, err := ParseRule(bad)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", bad, err, want)
		}
	}
	if _, err := ParseRule("rename:flip(1)"); !errors.Is(err, ErrRule) {
		t.Errorf("%v is no %v", err, ErrRule)
	}
}

// What a rule needs of the host: to fail a call less than to carry it out.
func TestNeeds(t *testing.T) {
	for text, want := range map[string]int{"write:eio": 1, "write:kill9": 1, "write:part=1:kill9": 2, "write:short(1)": 2, "read:flip(1)": 2} {
		r, err := ParseRule(text)
		if err != nil || len(r.Needs()) != want {
			t.Errorf("%s needs %v (%v)", text, r.Needs(), err)
		}
	}
	for _, a := range Abilities() {
		if a.About() == string(a) {
			t.Errorf("%s is not explained", a)
		}
	}
}

func TestIsFile(t *testing.T) {
	for name, want := range map[string]bool{
		"/a/b": true, "/dev/null": false, "/dev/shm/x": true, "/device": true, "pipe:[1]": false, "socket:[2]": false,
		"/proc/self/mem": false, "/sys/x": false, "anon_inode:[eventfd]": false, "": false,
	} {
		if isFile(name) != want {
			t.Errorf("isFile(%q) is %t", name, !want)
		}
	}
}

// FuzzParseRule: no text makes the parser fail, and what it takes prints back.
func FuzzParseRule(f *testing.F) {
	for _, s := range []string{"write:path=*.kv:nth=3:part=50%:kill9", "any:eio", "write:err(EDQUOT)", "rename:part=100%:lie", "fsync:hang(1s)"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := ParseRule(text)
		if err != nil {
			return
		}
		again, err := ParseRule(r.String())
		if err != nil || again.String() != r.String() {
			t.Errorf("%q prints as %q, which is %q (%v)", text, r, again, err)
		}
		if r.Op != faults.AnyOp && !slices.Contains(Ops(), r.Op) {
			t.Errorf("%q has the operation %q", text, r.Op)
		}
	})
}
