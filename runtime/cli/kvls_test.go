package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"ds4/runtime/kvstore"
	"ds4/runtime/kvstore/segment"
	"ds4/runtime/vfs"
)

var tinyLayout = segment.Layout{Vocab: 4, Window: 1, Layers: []segment.Layer{{RowBytes: 1}}}

// putChain writes a segment of ten tokens that continues another one and returns
// its id.
func putChain(t testing.TB, dir string, parent segment.ID, from int, text string) segment.ID {
	t.Helper()
	s := &segment.Segment{Parent: parent, From: from, To: from + 10, CreatedNS: time.Now().Add(-time.Hour).UnixNano() + int64(from),
		Text: []byte(text), Tokens: make([]int32, 10), Raw: [][]byte{{1}}}
	enc, err := segment.Encode(tinyLayout, s)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "segments", enc.ID.String()[:2], enc.ID.String()+".kv")
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, slices.Concat(enc.Parts()...), 0o600); err != nil {
		t.Fatal(err)
	}
	return enc.ID
}

func look(t testing.TB, dir string) *listing {
	t.Helper()
	s, err := kvstore.LookAt(context.Background(), vfs.OS, dir, kvstore.SurveyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return newListing(s)
}

// firstColumn is the drawing of the tree.
func firstColumn(p *listing) string {
	var lines []string
	p.tree(func(r row) { lines = append(lines, r[0]) })
	return strings.Join(lines, "\n")
}

// TestTree: what is shared is drawn once, what is alone is not indented.
func TestTree(t *testing.T) {
	dir := t.TempDir()
	a := putChain(t, dir, segment.ID{}, 0, "a")
	b := putChain(t, dir, a, 10, "b")
	c := putChain(t, dir, b, 20, "c")
	putChain(t, dir, c, 30, "d")
	e := putChain(t, dir, b, 20, "e")
	f := putChain(t, dir, e, 30, "f")
	putChain(t, dir, f, 40, "g")
	putChain(t, dir, f, 40, "h")
	putChain(t, dir, segment.ID{9}, 90, "orphan")
	p := look(t, dir)
	lines := strings.Split(firstColumn(p), "\n")
	if len(lines) != 9 || lines[0] != "[0,10)" || lines[1] != "[10,20)" || p.sum.Conversations != 3 || p.sum.Files[kvstore.VerdictOrphan] != 1 {
		t.Errorf("%v %+v", lines, p.sum)
	}
	// Which of two branches comes first is decided by their last use, then by their id.
	left := "├─ [20,30)\n│  [30,40)\n└─ [20,30)\n   [30,40)\n   ├─ [40,50)\n   └─ [40,50)"
	right := "├─ [20,30)\n│  [30,40)\n│  ├─ [40,50)\n│  └─ [40,50)\n└─ [20,30)\n   [30,40)"
	if got := strings.Join(lines[2:8], "\n"); got != left && got != right {
		t.Errorf("the tree is\n%s", got)
	}
	if lines[8] != "[90,100)" {
		t.Errorf("the orphan is drawn as %q", lines[8])
	}
}

// TestDeepTree: however often conversations part, lines stay within a width, and
// long chains do not grow to the right.
func TestDeepTree(t *testing.T) {
	dir := t.TempDir()
	var at segment.ID
	for i := range 100 {
		putChain(t, dir, at, 10*i, fmt.Sprint("side", i))
		at = putChain(t, dir, at, 10*i, fmt.Sprint("on", i))
	}
	p := look(t, dir)
	n := 0
	p.tree(func(r row) {
		if n++; len([]rune(r[0])) > 3*maxTreeLevel+len("[1000,1010)") {
			t.Fatalf("line %d is %q", n, r[0])
		}
	})
	if n != 200 {
		t.Errorf("%d lines", n)
	}
}

// TestListingJSON: the fields are a promise.
func TestListingJSON(t *testing.T) {
	dir := t.TempDir()
	a := putChain(t, dir, segment.ID{}, 0, "secret words")
	putChain(t, dir, a, 10, "b")
	if err := os.MkdirAll(filepath.Join(dir, "quarantine"), 0o700); err != nil {
		t.Fatal(err)
	}
	name := a.String() + ".1700000000.torn"
	if err := os.WriteFile(filepath.Join(dir, "quarantine", name+".kv"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := look(t, dir).json(&out); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(out.String(), "secret") {
		t.Error("text of a prompt is shown")
	}
	keys := func(v any) string {
		var names []string
		for k := range v.(map[string]any) {
			names = append(names, k)
		}
		slices.Sort(names)
		return strings.Join(names, " ")
	}
	var doc map[string]any
	if err := json.Unmarshal(out.Bytes(), &doc); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	for what, want := range map[string]string{
		keys(doc):                           "dir identity in_use_by quarantined segments summary",
		keys(doc["segments"].([]any)[1]):    "bytes created from hits id identity last_used parent path strikes text_bytes to verdict",
		keys(doc["quarantined"].([]any)[0]): "bytes from id name since strikes to why",
		keys(doc["summary"]):                "budget_bytes bytes conversations files foreign_bytes quarantine_bytes quarantined segment_bytes segments temp_bytes unlisted",
	} {
		if what != want {
			t.Errorf("fields %s\n  want %s", what, want)
		}
	}
}

// TestListingOfManySegments: ten thousand segments are no effort.
func TestListingOfManySegments(t *testing.T) {
	if testing.Short() {
		t.Skip("writes 10,000 files")
	}
	dir := t.TempDir()
	for i := range 1000 {
		var at segment.ID
		for k := range 10 {
			at = putChain(t, dir, at, 10*k, fmt.Sprint(i, " ", k))
		}
	}
	p := look(t, dir)
	var out bytes.Buffer
	if err := p.print(&out, p.tree); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(out.String(), "\n"); n != 10_000+4 || p.sum.Conversations != 1000 {
		t.Errorf("%d lines, %d conversations", n, p.sum.Conversations)
	}
}

func TestUnits(t *testing.T) {
	for text, want := range map[string]time.Duration{"90m": 90 * time.Minute, "36h": 36 * time.Hour, "7d": 168 * time.Hour, "2w": 336 * time.Hour, "1h30m": 90 * time.Minute} {
		if got, err := parseAge(text); err != nil || got != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	for text, want := range map[string]int64{"0": 0, "500000": 500000, "512M": 512 << 20, "4GiB": 4 << 30, "1KB": 1024, "1k": -1, "2T": 2 << 40} {
		if got, err := parseSize(text); want >= 0 && (err != nil || got != want) || want < 0 && err == nil {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	for d, want := range map[time.Duration]string{-1: "future", 0: "0s", 59 * time.Second: "59s", 90 * time.Minute: "1h", 47 * time.Hour: "47h", 48 * time.Hour: "2d"} {
		if got := formatAge(d); got != want {
			t.Errorf("%v: %s", d, got)
		}
	}
}

// FuzzUnits: what a person types is a positive age and a size that is not
// negative, or an error that repeats it.
func FuzzUnits(f *testing.F) {
	for _, seed := range []string{"7d", "9999999999w", "-1h", "4GiB", "99999999T", "iB", "", "1e9h", "0d"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if d, err := parseAge(text); err == nil && (d <= 0 || d > maxAge) {
			t.Errorf("%q is %v", text, d)
		}
		if n, err := parseSize(text); err == nil && n < 0 {
			t.Errorf("%q is %d", text, n)
		}
	})
}

// TestLocalAddress: what the lock file says is an address that works from here.
func TestLocalAddress(t *testing.T) {
	for host, want := range map[string]string{"127.0.0.1": "127.0.0.1:80", "0.0.0.0": "127.0.0.1:80", "localhost": "127.0.0.1:80", "10.1.2.3": "10.1.2.3:80"} {
		if got := localAddress(host, 80); got != want {
			t.Errorf("%s: %s", host, got)
		}
	}
}
