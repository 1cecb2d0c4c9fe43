package chat

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
)

func TestParseMode(t *testing.T) {
	for name, want := range map[string]Mode{
		"none": None, "off": None, "minimal": High, "low": High, "medium": High, "high": High, "xhigh": High, "max": Max,
	} {
		if got, err := ParseMode(name); err != nil || got != want {
			t.Errorf("%s: %v, %v; want %v", name, got, err, want)
		}
	}
	for _, m := range []Mode{None, High, Max} {
		if got, err := ParseMode(m.String()); err != nil || got != m {
			t.Errorf("%v does not come back: %v, %v", m, got, err)
		}
	}
	for _, bad := range []string{"", "MAX", "ultra", strings.Repeat("x", 1<<20)} {
		if _, err := ParseMode(bad); !errors.Is(err, ErrMode) || len(err.Error()) > 200 {
			t.Errorf("%.20q: error %.300v", bad, err)
		}
	}
}

// The search is tested with a text of our own: the real one is in model files only.
func TestFindPrefix(t *testing.T) {
	const text = "Effort: think of everything.\nLeave nothing out.\n\n"
	digest := sha256.Sum256([]byte(text))
	sum := hex.EncodeToString(digest[:])
	escaped := strings.ReplaceAll(text, "\n", `\n`)
	for _, c := range []struct {
		name, template string
		found          bool
	}{
		{"alone", text, true},
		{"literal", "{% set p %}" + text + "{% endset %}", true},
		{"string literal", `{%- set p = "` + escaped + `" -%}`, true},
		{"after a decoy", "Effort: low. " + text, true},
		{"none", "no such thing", false},
		{"empty", "", false},
		{"cut", text[:len(text)-1], false},
		{"changed", strings.Replace(text, "everything", "everythinG", 1), false},
		{"beyond the limit", strings.Repeat(" ", maxTemplateBytes) + text, false},
	} {
		got, ok := findPrefix(c.template, "Effort:", len(text), sum)
		if ok != c.found || ok && got != text {
			t.Errorf("%s: %q, %v", c.name, got, ok)
		}
	}
	if _, ok := FindMaxPrefix("Reasoning Effort: " + strings.Repeat("x", 1000)); ok {
		t.Error("any text passes for the model's")
	}
}
