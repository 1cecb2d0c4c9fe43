package cli

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"ds4/runtime/model/tiny"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"ds4": func() { os.Exit(Main(os.Args[1:], OSStreams())) },
	})
}

// TestScripts drives the commands as a user does. Scripts may use:
//
//	waitlog FILE REGEXP    wait until a line of a growing file matches
//	seturl FILE            set $URL to the address that the server logged
//	head N FROM TO         copy the first N bytes
//	tinymodel FILE         write the embedded model to a file
//	fetch STATUS OUT PATH [BODY]   GET or POST $URL PATH
//	samecontent A B        compare the answers in two chat completions
//	longprompt N FILE [TEXT]   write a chat request of about N tokens, and its prompt alone
//	ids DIR NAME           set $NAME to the beginning of a segment's id
//	jailed DIR NAME        set $NAME0, $NAME1, ... to what is in quarantine, by position
//	exitcode N ARGS...     run ds4 with the arguments and compare its exit code
//	firstsegment DIR FILE  copy one segment of a cache folder
//	damage DIR             flip a byte in the middle of one segment
//	f32rows FILE ROWS N    check the size of a float32 file, and that all are finite
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			e.Setenv("DS4_LOCK_FILE", e.WorkDir+"/ds4.lock")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"waitlog": waitLog, "seturl": setURL, "head": head, "tinymodel": tinyFile, "f32rows": f32Rows,
			"fetch": fetch, "samecontent": sameContent, "longprompt": longPrompt, "firstsegment": firstSegment, "damage": damage,
			"ids": segmentIDs, "jailed": jailed, "exitcode": exitCode,
		},
		RequireExplicitExec: true,
	})
}

// scriptDeadline bounds every wait of a script.
const scriptDeadline = 60 * time.Second

// poll reads a file until find is satisfied with it.
func poll(ts *testscript.TestScript, name string, find func([]byte) bool) {
	path := ts.MkAbs(name)
	for end := time.Now().Add(scriptDeadline); ; time.Sleep(10 * time.Millisecond) {
		data, _ := os.ReadFile(path)
		if find(data) {
			return
		}
		if time.Now().After(end) {
			ts.Fatalf("waited %v; %s is\n%s", scriptDeadline, name, data)
		}
	}
}

func waitLog(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: waitlog FILE REGEXP")
	}
	re, err := regexp.Compile(args[1])
	ts.Check(err)
	poll(ts, args[0], re.Match)
}

var listening = regexp.MustCompile(`listening on (http://\S+)`)

func setURL(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: seturl FILE")
	}
	poll(ts, args[0], func(data []byte) bool {
		m := listening.FindSubmatch(data)
		if m != nil {
			ts.Setenv("URL", string(m[1]))
		}
		return m != nil
	})
}

func head(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: head N FROM TO")
	}
	n, err := strconv.Atoi(args[0])
	ts.Check(err)
	data, err := os.ReadFile(ts.MkAbs(args[1]))
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[2]), data[:min(n, len(data))], 0o600))
}

func tinyFile(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: tinymodel FILE")
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), tiny.Bytes(), 0o600))
}

func f32Rows(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: f32rows FILE ROWS COLUMNS")
	}
	rows, err := strconv.Atoi(args[1])
	ts.Check(err)
	cols, err := strconv.Atoi(args[2])
	ts.Check(err)
	data, err := os.ReadFile(ts.MkAbs(args[0]))
	ts.Check(err)
	if len(data) != 4*rows*cols {
		ts.Fatalf("%s has %d bytes, want %d rows of %d", args[0], len(data), rows, cols)
	}
	for i := 0; i < len(data); i += 4 {
		if x := float64(math.Float32frombits(binary.LittleEndian.Uint32(data[i:]))); math.IsNaN(x) || math.IsInf(x, 0) {
			ts.Fatalf("%s: value %d is %v", args[0], i/4, x)
		}
	}
}

func fetch(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 || len(args) > 4 {
		ts.Fatalf("usage: fetch STATUS OUT PATH [BODY]")
	}
	method, body := http.MethodGet, []byte(nil)
	if len(args) == 4 {
		var err error
		method = http.MethodPost
		body, err = os.ReadFile(ts.MkAbs(args[3]))
		ts.Check(err)
	}
	req, err := http.NewRequest(method, ts.Getenv("URL")+args[2], bytes.NewReader(body))
	ts.Check(err)
	resp, err := (&http.Client{Timeout: scriptDeadline}).Do(req)
	ts.Check(err)
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	ts.Check(err)
	if strconv.Itoa(resp.StatusCode) != args[0] {
		ts.Fatalf("%s %s: %s, want %s\n%s", method, args[2], resp.Status, args[0], got)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), got, 0o600))
}

func sameContent(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: samecontent A B")
	}
	content := func(name string) string {
		var c struct {
			Choices []struct {
				Message struct{ Content string }
			}
		}
		data, err := os.ReadFile(ts.MkAbs(name))
		ts.Check(err)
		ts.Check(json.Unmarshal(data, &c))
		if len(c.Choices) != 1 {
			ts.Fatalf("%s is no chat completion: %s", name, data)
		}
		return c.Choices[0].Message.Content
	}
	if a, b := content(args[0]), content(args[1]); a != b || a == "" {
		ts.Fatalf("the answers differ:\n%s\n%s", a, b)
	}
}

func longPrompt(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 || len(args) > 3 {
		ts.Fatalf("usage: longprompt N FILE [TEXT]")
	}
	n, err := strconv.Atoi(args[0])
	ts.Check(err)
	var text strings.Builder
	for i := 0; text.Len() < 2*n; i++ {
		fmt.Fprintf(&text, "Fact %d: the room of clerk %d is %d. ", i, i, 1000+7*i)
	}
	text.WriteString("Who are you?")
	if len(args) == 3 {
		ts.Check(os.WriteFile(ts.MkAbs(args[2]), []byte(text.String()), 0o600))
	}
	request := map[string]any{
		"messages": []map[string]string{{"role": "user", "content": text.String()}}, "temperature": 0, "max_tokens": 12, "think": false,
	}
	data, err := json.Marshal(request)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), data, 0o600))
}

// segments returns the segment files of a cache folder.
func segments(ts *testscript.TestScript, dir string) []string {
	list, err := filepath.Glob(filepath.Join(ts.MkAbs(dir), "segments", "*", "*.kv"))
	ts.Check(err)
	if len(list) == 0 {
		ts.Fatalf("no segments in %s", dir)
	}
	return list
}

func firstSegment(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: firstsegment DIR FILE")
	}
	data, err := os.ReadFile(segments(ts, args[0])[0])
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), data, 0o600))
}

func damage(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: damage DIR")
	}
	name := segments(ts, args[0])[0]
	data, err := os.ReadFile(name)
	ts.Check(err)
	data[len(data)/2] ^= 1
	ts.Check(os.WriteFile(name, data, 0o600))
}

func segmentIDs(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: ids DIR NAME")
	}
	ts.Setenv(args[1], filepath.Base(segments(ts, args[0])[0])[:12])
}

func jailed(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: jailed DIR NAME")
	}
	notes, err := filepath.Glob(filepath.Join(ts.MkAbs(args[0]), "quarantine", "*.json"))
	ts.Check(err)
	from := map[string]int{}
	for _, name := range notes {
		var note struct{ From int }
		data, err := os.ReadFile(name)
		ts.Check(err)
		ts.Check(json.Unmarshal(data, &note))
		from[name] = note.From
	}
	slices.SortFunc(notes, func(a, b string) int { return from[a] - from[b] })
	for i, name := range notes {
		ts.Setenv(args[1]+strconv.Itoa(i), strings.TrimSuffix(filepath.Base(name), ".json"))
	}
}

func exitCode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exitcode N ARGS...")
	}
	got := 0
	if err := ts.Exec("ds4", args[1:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if strconv.Itoa(got) != args[0] {
		ts.Fatalf("ds4 %s: exit code %d, want %s", strings.Join(args[1:], " "), got, args[0])
	}
}
