package config

import "math"

// AddOriginal registers settings of the original server that mean nothing here,
// so that its command lines still start, and those that would change what the
// server does and are refused for that.
func (s *Set) AddOriginal() {
	number := func(text string) error {
		_, err := parseInt(text, 0, math.MaxInt32)
		return err
	}
	flag := func(text string) error {
		_, err := parseBool(text)
		return err
	}
	const segments = "the cache is kept in segments, which are saved as they fill"
	for _, name := range []string{
		"kv-cache-cold-max-tokens", "kv-cache-continued-interval-tokens",
		"kv-cache-boundary-trim-tokens", "kv-cache-boundary-align-tokens",
	} {
		s.ignored(name, segments, number)
	}
	s.ignored("kv-cache-reject-different-quant", "entries of another model are never used", flag).optional = "true"

	const (
		draft    = "there is no speculative decoding; leave it out"
		steering = "there are no steering vectors; leave it out"
	)
	s.rejected("mtp", draft)
	s.rejected("mtp-draft", draft)
	s.rejected("mtp-margin", draft)
	s.rejected("dir-steering-file", steering)
	s.rejected("dir-steering-ffn", steering)
	s.rejected("dir-steering-attn", steering)
	s.rejected("batched-session", "sessions are always batched; --sessions N sets how many are kept")
	s.rejected("power", "the device's power cannot be limited from here")
	s.rejected("vision", "the model reads text only")
	s.rejected("ssd-streaming", "weights are mapped from the file and may be bigger than memory; leave it out")
	s.rejected("nothink", "each request says whether the model thinks, with \"reasoning_effort\": \"none\" for example")
	s.rejected("trace", "there is no trace file; the log on stderr names every request")
}

func (s *Set) ignored(name, reason string, check func(string) error) *Setting {
	return s.add(&Setting{Name: name, Usage: "ignored: " + reason, hidden: true, value: &ignoredValue{reason: reason, check: check}})
}

func (s *Set) rejected(name, reason string) {
	// optional: the refusal must come before the complaint that a value is missing.
	s.add(&Setting{Name: name, Usage: "not supported: " + reason, hidden: true, optional: "true", value: &rejectedValue{reason}})
}

// AddConfig registers --config itself, and --print-config.
func (s *Set) AddConfig(file *string, print *bool) {
	s.Path(file, configFlag, "", "read settings from a YAML `FILE`")
	s.Bool(print, "print-config", "", false, "print the settings with their origins and exit").flagOnly = true
}

// everything is a set with the settings of all commands and throw-away values:
// what a file or the environment may mention.
func everything() *Set {
	var (
		s         = &Set{}
		file      string
		print     bool
		m         Model
		kv        KV
		server    Server
		recovery  Recovery
		sampling  Sampling
		faults    Faults
		withoutUs = &Set{}
	)
	s.AddConfig(&file, &print)
	s.AddModel(&m)
	s.AddKV(&kv)
	s.AddServer(&server)
	s.AddAccess(&Access{})
	s.AddRecovery(&recovery)
	s.AddFaults(&faults)
	s.AddOriginal()
	withoutUs.AddSampling(&sampling)
	for _, st := range withoutUs.list {
		if s.index[st.Name] == nil { // tokens is a setting of both
			s.add(st)
		}
	}
	return s
}
