package scenarios

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"ds4/faults/disk"
)

func TestParseBytes(t *testing.T) {
	for in, want := range map[string]Bytes{"0": 0, "17": 17, "4KiB": 4096, "64MiB": 64 << 20, "2GiB": 2 << 30} {
		got, err := ParseBytes(in)
		if err != nil || got != want {
			t.Errorf("%q: %d, %v", in, got, err)
		}
		if text, err := got.MarshalText(); err != nil || string(text) != in {
			t.Errorf("%q prints as %s, %v", in, text, err)
		}
	}
	for _, in := range []string{"", "KiB", "-1", "+1", "1.5MiB", "1 KiB", "1kb", "9999999999999999999", "2000GiB", "0x10"} {
		if _, err := ParseBytes(in); !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: %v", in, err)
		}
	}
}

// Steps that change the host belong to lane limits, and say what they need.
func TestCheckLimits(t *testing.T) {
	const expect = "\nexpect: [{outcome: recovered}]"
	for _, c := range []struct{ lane, server, steps, want string }{
		{"process", "", "{limit: {nofile: 3}}", "needs lane limits"},
		{"process", "", "{remove-dir: {}}", "needs lane limits"},
		{"process", "disk: 1MiB", "{start: {}}", "needs lane limits"},
		{"limits", "disk: 1KiB", "{start: {}}", "disk of 1024 bytes"},
		{"limits", "disk: much", "{start: {}}", `bytes "much"`},
		{"limits", "", "{fill-disk: {}}", "no disk of its own"},
		{"limits", "", "{free-disk: {}}", "no disk of its own"},
		{"limits", "disk: 1MiB", "{fill-disk: {leave: 2MiB}}", "leave 2097152"},
		{"limits", "", "{limit: {}}", "want fsize or nofile"},
		{"limits", "", "{limit: {fsize: big}}", `bytes "big"`},
		{"limits", "", "{limit: {nofile: -1}}", `nofile "-1"`},
		{"limits", "", "{limit: {nofile: $more}}", "$more"},
		{"limits", "", "{access: {}}", "want either mode or owner"},
		{"limits", "", "{access: {mode: '0700', owner: self}}", "want either mode or owner"},
		{"limits", "", "{access: {mode: '0888'}}", `mode "0888"`},
		{"limits", "", "{access: {mode: '7777'}}", `mode "7777"`},
		{"limits", "", "{access: {mode: 0500}}", "mode 0500: put it in quotes"},
		{"limits", "", "{access: {owner: root}}", `owner "root"`},
		{"limits", "disk: 1MiB", "{access: {owner: other}}", "one user only"},
		{"limits", "", "{remove-dir: {mov: true}}", `did you mean "move"`},
		{"limits", "", "{sweep: {var: n, over: ['1', x], steps: [{limit: {nofile: $n}}]}}", "(with n=x)"},
	} {
		text := "id: x\ntitle: t\nlane: " + c.lane + "\nserver: {" + c.server + "}\nsteps: [" + c.steps + "]" + expect
		_, err := Load([]byte(text), "x.yaml")
		if err == nil || !strings.Contains(err.Error(), c.want) || !errors.Is(err, ErrInvalid) {
			t.Errorf("%s\n: error %v, want %q", text, err, c.want)
		}
	}
}

func TestNeeds(t *testing.T) {
	for steps, want := range map[string][]disk.Ability{
		"{start: {}}":     nil,
		"{fill-disk: {}}": {disk.Volumes},
		"{sweep: {var: n, over: ['1'], steps: [{repeat: {times: 2, steps: [{limit: {nofile: $n, fsize: 1MiB}}]}}]}}": {disk.Limits},
		"{parallel: [{access: {mode: '0500'}}, {access: {owner: self}}]}":                                            {disk.Modes},
		"{access: {owner: other}}": {disk.Modes, disk.Strangers},
	} {
		server := ""
		if strings.Contains(steps, "disk") {
			server = "server: {disk: 1MiB}\n"
		}
		s, err := Load([]byte("id: x\ntitle: t\nlane: limits\n"+server+"steps: ["+steps+"]\nexpect: [{outcome: recovered}]"), "x.yaml")
		if err != nil {
			t.Fatal(err)
		}
		if got := s.Needs(); !slices.Equal(got, want) {
			t.Errorf("%s needs %v, want %v", steps, got, want)
		}
	}
	s, err := Load([]byte("id: x\ntitle: t\nlane: limits\nsteps: [{limit: {nofile: 0, fsize: none}}]\nexpect: [{outcome: recovered}]"), "x.yaml")
	if err != nil {
		t.Fatal(err)
	}
	fsize, nofile, err := s.Steps[0].Limit.Values()
	if err != nil || *fsize != Lifted || *nofile != 0 {
		t.Errorf("%v %v %v", fsize, nofile, err)
	}
}
