package scenarios

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSplitCommand(t *testing.T) {
	for _, c := range []struct {
		line string
		want []string // nil: an error
	}{
		{"llama-server --port $PORT", []string{"llama-server", "--port", "$PORT"}},
		{`a  'b c' "d 'e'" f\ g ""`, []string{"a", "b c", "d 'e'", "f g", ""}},
		{`a"b"'c'`, []string{"abc"}},
		{`'a\b' "a\"b"`, []string{`a\b`, `a"b`}},
		{"", nil}, {"  ", nil}, {"'a", nil}, {`"a`, nil}, {`a\`, nil},
	} {
		got, err := SplitCommand(c.line)
		if (err != nil) != (c.want == nil) || !cmp.Equal(got, c.want) {
			t.Errorf("%s: %q, %v, want %q", c.line, got, err, c.want)
		}
	}
}

func TestForeignChecks(t *testing.T) {
	const head = "id: x\ntitle: t\nlane: process\nsteps: [{start: {}}]\nexpect: [{outcome: recovered}]\nserver: "
	for _, c := range []struct{ server, says string }{
		{"{command: [a, $PORT]}", ""},
		{"{command: [a, '--port=${PORT}'], ready: /health, port: $PORT, kv_dir: $KV/x, api: completions, env: {A: b}}", ""},
		{"{command: [a], port: 8080}", ""},
		{"{command: [a], env: {PORT: $PORT}}", ""},
		{"{command: [a]}", "nobody knows where the server listens"},
		{"{command: [a, $PORTS]}", "nobody knows where"},
		{"{command: ['', $PORT]}", "want a program"},
		{"{command: [a, $PORT, $nothing]}", "unknown variable $nothing"},
		{"{command: [a, $PORT], port: 70000}", `port "70000"`},
		{"{command: [a, $PORT], api: chats}", `did you mean "chat"?`},
		{"{command: [a, $PORT], ready: health}", "want an http URL"},
		{"{command: [a, $PORT], args: {ctx: 1}}", "args are flags of ds4"},
		{"{ready: /health}", "need a command"},
		{"{command: a}", "x.yaml:6:"},
	} {
		_, err := Load([]byte(head+c.server+"\n"), "x.yaml")
		if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", c.server, err, c.says)
		}
	}
}

func TestLoadForeign(t *testing.T) {
	path := filepath.Join(t.TempDir(), "server.yaml")
	for _, c := range []struct{ text, says string }{
		{"command: [$HERE/a, $PORT]\n", ""},
		{"", "the file is empty"}, {"api: chat\n", "no command"},
		{"comand: [a]\n", `did you mean "command"?`},
		{"command: [a]\n", "nobody knows where"},
		{"command: &x [a]\n", "anchor"},
	} {
		if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := LoadForeign(path)
		if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%q: %v, want %q", c.text, err, c.says)
		}
		if err == nil && f.Here != filepath.Dir(path) {
			t.Errorf("here is %s", f.Here)
		}
	}
	if _, err := LoadForeign(path + "x"); err == nil {
		t.Error("a file that is not there")
	}
}

// Some scenarios of the library must run against any server, and none that needs
// a hook of ours.
func TestUnavailable(t *testing.T) {
	list, err := Library()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range list {
		if got := s.Unavailable(SubjectDS4); got != nil {
			t.Errorf("%s: ds4 does not offer %v", s.ID, got)
		}
		if slices.Contains(s.Tags, "any-server") {
			if got := s.Unavailable(SubjectForeign); got != nil {
				t.Errorf("%s: another server does not offer %v", s.ID, got)
			}
		}
	}
	for id, want := range map[string]string{
		"stale-kv-after-kill9": "fault points (expect.fired, start.faults)", "truncated-segment": "sections of ds4's segment format",
		"other-tokenizer": "models that are made for ds4 (swap-model)", "store-crash-points": "a store that runs without its server (memory)",
		"limits-disk-full": "log and pages of ds4",
	} {
		s, err := Find(list, id)
		if err != nil {
			t.Fatal(err)
		}
		for _, on := range []Subject{SubjectForeign, SubjectTarget} {
			got := strings.Join(s.Unavailable(on), "; ")
			if got == "" || on == SubjectForeign && !strings.Contains(got, want) {
				t.Errorf("%s on %d: %q, want %q", id, on, got, want)
			}
		}
	}
}

func FuzzForeign(f *testing.F) {
	f.Add([]byte("command: [a, $PORT]\nready: /health\nenv: {A: '$KV'}\n"))
	f.Add([]byte("command: [a, ${PORT]\nport: 1\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if desc, err := decodeForeign(data, "x"); err == nil && len(desc.Command) == 0 {
			t.Error("accepted without a command")
		}
		_, _ = SplitCommand(string(data))
	})
}
