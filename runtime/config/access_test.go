package config

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

func TestKeys(t *testing.T) {
	file := func(text string) string {
		name := filepath.Join(t.TempDir(), "keys")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	for _, c := range []struct {
		access Access
		want   []string
		err    string
	}{
		{access: Access{}},
		{access: Access{Key: "secret-1"}, want: []string{"secret-1"}},
		{access: Access{KeyFile: file("# ours\n\n  secret-2 \r\nsecret-3")}, want: []string{"secret-2", "secret-3"}},
		{access: Access{Key: "secret-1", KeyFile: file("secret-2\n")}, want: []string{"secret-1", "secret-2"}},
		{access: Access{KeyFile: file("# nothing\n")}, err: "no key in it"},
		{access: Access{KeyFile: file("good-key-1\nshort\n")}, err: "keys:2: a key has 8 to 512 characters, this one 5"},
		{access: Access{KeyFile: file("two words\n")}, err: "keys:1: a key consists of visible ASCII"},
		{access: Access{KeyFile: file(strings.Repeat("secret-key\n", maxKeys+1))}, err: "more than 64 keys"},
		{access: Access{KeyFile: file(strings.Repeat("x", maxKeyFileBytes+1))}, err: "more than "},
		{access: Access{KeyFile: "/no/such/file"}, err: "api-key-file: open /no/such/file"},
	} {
		got, err := c.access.Keys()
		if !slices.Equal(got, c.want) || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%+v: %v %v, want %v %s", c.access, got, err, c.want, c.err)
		}
	}
}

// TestKeyIsNotShown: neither --print-config nor an error tells the key.
func TestKeyIsNotShown(t *testing.T) {
	var s Set
	var a Access
	s.AddAccess(&a)
	if err := s.Resolve(Sources{Environ: []string{"DS4_API_KEY=secret-key"}}); err != nil || a.Key != "secret-key" {
		t.Fatalf("%q %v", a.Key, err)
	}
	var b strings.Builder
	if err := s.Print(&b); err != nil || strings.Contains(b.String(), "secret") || !strings.Contains(b.String(), "DS4_API_KEY") {
		t.Errorf("%s %v", b.String(), err)
	}
	err := s.Resolve(Sources{Environ: []string{"DS4_API_KEY=bad secret"}})
	if err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("%v", err)
	}
	fs := pflag.NewFlagSet("x", pflag.ContinueOnError)
	s.AddFlags(fs)
	if err := fs.Parse([]string{"--api-key", "tiny"}); err == nil || strings.Contains(FlagError(err).Error(), "tiny") {
		t.Errorf("%v", err)
	}
}
