package config

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"ds4/runtime/failpoint"
	"ds4/runtime/model"
)

// serve is the set of ds4 serve with its values.
type serve struct {
	set      Set
	flags    *pflag.FlagSet
	file     string
	print    bool
	model    Model
	kv       KV
	server   Server
	recovery Recovery
	faults   Faults
}

func newServe() *serve {
	v := &serve{flags: pflag.NewFlagSet("serve", pflag.ContinueOnError)}
	v.flags.SetOutput(io.Discard)
	v.set.AddConfig(&v.file, &v.print)
	v.set.AddModel(&v.model)
	v.set.AddKV(&v.kv)
	v.set.AddServer(&v.server)
	v.set.AddRecovery(&v.recovery)
	v.set.AddFaults(&v.faults)
	v.set.AddOriginal()
	v.set.AddFlags(v.flags)
	return v
}

// load parses args, then the environment, then files by name.
func (v *serve) load(args []string, env []string, files map[string]string) error {
	if err := v.flags.Parse(args); err != nil {
		return FlagError(err)
	}
	return v.set.Resolve(Sources{Environ: env, ReadFile: func(name string) ([]byte, error) {
		text, ok := files[name]
		if !ok {
			return nil, os.ErrNotExist
		}
		return []byte(text), nil
	}})
}

func TestLayers(t *testing.T) {
	file := map[string]string{"ds4.yaml": "# settings\nctx: 1000\nport: 1001\nthreads: 2\ncors: on\nhost: localhost\n"}
	v := newServe()
	err := v.load([]string{"-c", "3000", "--config", "ds4.yaml", "--prefill-inline-retry=off"},
		[]string{"DS4_CTX=2000", "DS4_PORT=2001", "DS4_THREADS=", "HOME=/x"}, file)
	if err != nil {
		t.Fatal(err)
	}
	if v.model.Context != 3000 || v.server.Port != 2001 || v.model.Threads != 2 || v.server.Queue != 64 {
		t.Errorf("ctx %d port %d threads %d queue %d, want 3000 2001 2 64", v.model.Context, v.server.Port, v.model.Threads, v.server.Queue)
	}
	if !v.server.CORS || v.server.Host != "localhost" || v.recovery.InlineRetry {
		t.Errorf("cors %v host %q inline retry %v", v.server.CORS, v.server.Host, v.recovery.InlineRetry)
	}
	got := map[string]string{}
	for _, name := range []string{"ctx", "port", "threads", "queue", "host", "prefill-inline-retry"} {
		got[name] = v.set.Lookup(name).Origin.String()
	}
	want := map[string]string{"ctx": "flag --ctx", "port": "environment DS4_PORT", "threads": "file ds4.yaml:4",
		"queue": "default", "host": "file ds4.yaml:6", "prefill-inline-retry": "flag --prefill-inline-retry"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if v.set.Explicit("queue") || !v.set.Explicit("threads") {
		t.Error("Explicit does not follow the origin")
	}
}

// TestHomeFolder: a tilde is the home folder in every layer.
func TestHomeFolder(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	v := newServe()
	err := v.load([]string{"--config=~/ds4.yaml", "--chdir=~"}, []string{"DS4_MODEL=~/m.gguf"},
		map[string]string{filepath.Join(home, "ds4.yaml"): "\ufeffkv-disk-dir: ~/.cache/ds4\n"})
	if err != nil {
		t.Fatal(err)
	}
	if v.model.Chdir != home || v.model.Path != filepath.Join(home, "m.gguf") || v.kv.Dir != filepath.Join(home, ".cache", "ds4") {
		t.Errorf("chdir %q, model %q, folder %q", v.model.Chdir, v.model.Path, v.kv.Dir)
	}
	for _, name := range []string{"./~", "~me/x", "a/~/b", ""} {
		if err := v.set.Lookup("model").value.Set(name); err != nil || v.model.Path != name {
			t.Errorf("%q is %q, %v", name, v.model.Path, err)
		}
	}
	t.Setenv("HOME", "")
	if err := v.set.Lookup("model").value.Set("~/x"); err == nil {
		t.Errorf("without a home ~/x is %q", v.model.Path)
	}
}

func TestDefaults(t *testing.T) {
	v := newServe()
	if err := v.load(nil, nil, nil); err != nil {
		t.Fatal(err)
	}
	if v.model.Context != 32768 || v.model.PrefillChunk != 512 || v.model.Numerics != model.Production || v.model.Backend != "cpu" ||
		v.kv.SpaceMB != 4096 || v.kv.MinTokens != 512 || v.kv.Validate != "header" || v.kv.Sync != "data" || v.kv.QuarantineMB != 512 ||
		v.server.Host != "127.0.0.1" || v.server.Port != 8000 || v.server.Tokens != 393216 ||
		v.recovery.PrefillFailureLimit != 3 || !v.recovery.InlineRetry {
		t.Errorf("%+v", v)
	}
}

// TestErrorsNameThePlace: every message says where the value stands and what is
// wanted instead.
func TestErrorsNameThePlace(t *testing.T) {
	for _, c := range []struct {
		name string
		args []string
		env  []string
		file string
		want string
	}{
		{"flag", []string{"--ctx", "12k"}, nil, "", `flag --ctx: "12k" is not a whole number from 2 to 16777216`},
		{"short flag", []string{"-c", "0"}, nil, "", `flag --ctx: "0" is not`},
		{"hex", []string{"--port", "0x10"}, nil, "", `flag --port: "0x10" is not a whole number`},
		{"plus", []string{"--port", "+1"}, nil, "", `flag --port: "+1" is not a whole number`},
		{"space", []string{"--port", " 1"}, nil, "", `flag --port: " 1" is not a whole number`},
		{"missing", []string{"--ctx"}, nil, "", "missing value for --ctx"},
		{"unknown", []string{"--no-such", "1"}, nil, "", "unknown option: --no-such"},
		{"unknown short", []string{"-z"}, nil, "", "unknown option: -z"},
		{"bool", []string{"--cors=maybe"}, nil, "", `flag --cors: "maybe" is neither on nor off`},
		{"enum", []string{"--kv-sync", "always"}, nil, "", `flag --kv-sync: "always" is unknown, want none, data`},
		{"host", []string{"--host", "example.org"}, nil, "", `flag --host: "example.org" is neither an IPv4 address nor localhost`},
		{"host v6", []string{"--host", "::1"}, nil, "", "flag --host"},
		{"duration", []string{"--prefill-failure-window", "10"}, nil, "", `flag --prefill-failure-window: "10" is not a duration`},
		{"segment", []string{"--kv-segment-tokens", "200"}, nil, "", "200 is not a multiple of 128"},
		{"numerics", []string{"--numerics", "exact"}, nil, "", `flag --numerics: model: unknown numerics "exact"`},
		{"fault", []string{"--fault", "kv.nowhere=eio"}, nil, "", `flag --fault: failpoint: bad rule`},
		{"unsafe", []string{"--unsafe", "no-luck"}, nil, "", `flag --unsafe: "no-luck" is unknown, want recovery-off`},
		{"rejected", []string{"--mtp", "draft.gguf"}, nil, "", "flag --mtp: not supported: there is no speculative decoding"},
		{"rejected alone", []string{"--nothink"}, nil, "", "flag --nothink: not supported: each request says"},
		{"rejected last", []string{"--vision"}, nil, "", "flag --vision: not supported"},
		{"env", nil, []string{"DS4_PORT=http"}, "", `environment DS4_PORT: "http" is not a whole number from 0 to 65535`},
		{"rejected env", nil, []string{"DS4_MTP=x"}, "", "environment DS4_MTP: not supported"},
		{"file", nil, nil, "host: localhost\nport: 70000\n", `file ds4.yaml:2: port: "70000" is not`},
		{"file unknown", nil, nil, "prot: 1\n", `ds4.yaml:1: unknown setting "prot"`},
		{"file flag only", nil, nil, "fault: [kv.fsync=eio]\n", "ds4.yaml:1: fault can only be given as a flag"},
		{"file twice", nil, nil, "port: 1\nport: 2\n", `mapping key "port" already defined`},
		{"file nested", nil, nil, "port:\n  a: 1\n", "line 1: port: want one value; a nested mapping is not allowed here"},
		{"file empty value", nil, nil, "port:\n", "port: want one value; an empty value is not allowed here"},
		{"file anchor", nil, nil, "port: &p 80\n", "an anchor or alias is not allowed here"},
		{"file alias", nil, nil, "threads: &p 1\nport: *p\n", "anchor or alias"},
		{"file tag", nil, nil, "port: !!int 80\n", "a tag is not allowed here"},
		{"file two documents", nil, nil, "port: 1\n---\nport: 2\n", "more than one YAML document"},
		{"file list", nil, nil, "- port\n", "want a mapping"},
		{"file scalar", nil, nil, "port\n", "want a mapping"},
		{"file syntax", nil, nil, "port: [1\n", "config: bad file: ds4.yaml"},
		{"file list for one value", nil, nil, "port: [1, http]\n", `file ds4.yaml:1: port: "http" is not`},
		{"file overruled", []string{"--port", "1"}, nil, "port: http\n", `file ds4.yaml:1: port: "http" is not`},
		{"file too big", nil, nil, "# " + strings.Repeat("x", maxFileBytes), "more than 65536 bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			args, files := c.args, map[string]string{}
			if c.file != "" {
				args = append([]string{"--config", "ds4.yaml"}, args...)
				files["ds4.yaml"] = c.file
			}
			err := newServe().load(args, c.env, files)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
}

func TestFileOnDisk(t *testing.T) {
	dir := t.TempDir()
	v := newServe()
	if err := v.flags.Parse([]string{"--config", dir}); err != nil {
		t.Fatal(err)
	}
	if err := v.set.Resolve(Sources{}); !errors.Is(err, ErrFile) {
		t.Errorf("a directory: %v", err)
	}
	name := filepath.Join(dir, "ds4.yaml")
	if err := os.WriteFile(name, []byte("kv-disk-dir: cache\ntemp: 0.5\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	v = newServe()
	// temp belongs to other commands: the file may hold it.
	if err := v.set.Resolve(Sources{Environ: []string{"DS4_CONFIG=" + name}}); err != nil || v.kv.Dir != "cache" {
		t.Errorf("dir %q, error %v", v.kv.Dir, err)
	}
	v = newServe()
	err := v.set.Resolve(Sources{Environ: []string{"DS4_CONFIG=" + name + ".missing"}})
	if !errors.Is(err, ErrFile) || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
}

func TestOriginalCommandLine(t *testing.T) {
	v := newServe()
	err := v.load([]string{"--cuda", "--cpu", "--kv-cache-cold-max-tokens", "30000", "--kv-cache-reject-different-quant", "-n", "100"},
		[]string{"DS4_CTXX=1", "DS4_TEMP=0.5", "DS4_FAULT=x"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if v.model.Backend != "cpu" || v.set.Lookup("backend").Origin.String() != "flag --cpu" {
		t.Errorf("backend %q from %s, want the last one", v.model.Backend, v.set.Lookup("backend").Origin)
	}
	want := []string{
		"flag --kv-cache-cold-max-tokens is ignored: the cache is kept in segments, which are saved as they fill",
		"flag --kv-cache-reject-different-quant is ignored: entries of another model are never used",
		"environment DS4_CTXX is not a setting of ds4",
		"environment DS4_FAULT is not a setting of ds4",
	}
	if d := cmp.Diff(want, v.set.Notes()); d != "" {
		t.Error(d)
	}
	err = v.load([]string{"--tool-memory-max-ids", "7", "--disable-exact-dsml-tool-replay"}, nil, nil)
	if err != nil || v.server.ToolMemory != 7 || !v.server.NoToolReplay {
		t.Errorf("tool memory %d, no replay %v, error %v: want 7, true", v.server.ToolMemory, v.server.NoToolReplay, err)
	}
	if err := newServe().load([]string{"--kv-cache-cold-max-tokens", "many"}, nil, nil); err == nil {
		t.Error("an ignored setting takes any text")
	}
}

func TestFaultsNeedPermission(t *testing.T) {
	rule := "prefill.embed=err(Internal Error (00000001:Internal Error)):times=3:match=disk"
	for _, c := range []struct {
		args, env []string
		ok        bool
	}{
		{nil, nil, true},
		{[]string{"--fault", rule}, nil, false},
		{[]string{"--fault", rule}, []string{"DS4_ENABLE_FAULTS=0"}, false},
		{[]string{"--fault", rule}, []string{"DS4_ENABLE_FAULTS=1"}, true},
		{[]string{"--unsafe", "recovery-off,no-rename"}, nil, false},
		{[]string{"--unsafe", "recovery-off,no-rename"}, []string{"DS4_ENABLE_FAULTS=1"}, true},
		{nil, []string{"DS4_METAL_FAULT=at=commit"}, false},
		{nil, []string{"DS4_METAL_FAULT=at=commit", "DS4_ENABLE_FAULTS=1"}, true},
	} {
		v := newServe()
		if err := v.load(c.args, c.env, nil); err != nil {
			t.Fatal(err)
		}
		if err := v.faults.Allow(c.env); (err == nil) != c.ok || err != nil && !errors.Is(err, ErrFaultsOff) {
			t.Errorf("%v %v: %v, want allowed=%v", c.args, c.env, err, c.ok)
		}
	}
	v := newServe()
	if err := v.load([]string{"--fault", rule, "--fault", "kv.fsync=eio", "--unsafe", "no-checksum"}, nil, nil); err != nil {
		t.Fatal(err)
	}
	if len(v.faults.Rules) != 2 || v.faults.Rules[0].String() != rule || !v.faults.Has("no-checksum") || v.faults.Has("no-rename") {
		t.Errorf("%+v", v.faults)
	}
}

// TestPrintLoads: what --print-config writes is a file with the same meaning.
func TestPrintLoads(t *testing.T) {
	v := newServe()
	if err := v.load([]string{"--kv-disk-dir", "a \"b\"\n#c", "--numerics", "kvFP8,kvF16", "--shutdown-timeout", "1m30s", "--cors"}, nil, nil); err != nil {
		t.Fatal(err)
	}
	v.faults.Rules = []failpoint.Rule{{Point: "kv.fsync", Action: failpoint.Action{Kind: failpoint.KindEIO}}}
	v.set.Lookup("fault").Origin = Origin{LayerFlag, "--fault"}
	var b strings.Builder
	if err := v.set.Print(&b); err != nil {
		t.Fatal(err)
	}
	if want := `# fault: ["kv.fsync=eio"] (flag --fault)`; !strings.Contains(b.String(), want) {
		t.Errorf("no line %s in\n%s", want, b.String())
	}
	again := newServe()
	if err := again.load([]string{"--config", "f"}, nil, map[string]string{"f": b.String()}); err != nil {
		t.Fatalf("%v in\n%s", err, b.String())
	}
	type values struct {
		Model  Model
		KV     KV
		Server Server
		Rec    Recovery
	}
	if d := cmp.Diff(values{v.model, v.kv, v.server, v.recovery}, values{again.model, again.kv, again.server, again.recovery}); d != "" {
		t.Error(d)
	}
}

// FuzzFile: no text makes the reader crash, and what it accepts is bounded.
func FuzzFile(f *testing.F) {
	f.Add("port: 1\nhost: 'x'\n")
	f.Add("a: [1, 2]\nb: |\n  text\n")
	f.Add("&a a: *a\n")
	f.Add("? [x]\n: {y: z}\n")
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > maxFileBytes {
			return
		}
		entries, err := parseFile([]byte(text))
		if err != nil {
			return
		}
		for _, e := range entries {
			if len(e.texts) > maxListLen {
				t.Errorf("%d values of %q", len(e.texts), e.name)
			}
		}
		_ = newServe().load([]string{"--config", "f"}, nil, map[string]string{"f": text})
	})
}
