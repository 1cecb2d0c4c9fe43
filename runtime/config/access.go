package config

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
)

// Limits of the keys.
const (
	maxKeys         = 64
	maxKeyBytes     = 512
	minKeyBytes     = 8 // fewer are guessed
	maxKeyFileBytes = maxKeys * (maxKeyBytes + 2)
)

// Access says who may use a server; for a command that asks one, who it is.
type Access struct {
	Key     string
	KeyFile string
}

// AddAccess registers the settings of Access.
func (s *Set) AddAccess(a *Access) {
	s.String(&a.Key, "api-key", "", "", checkKeyOrNone, "clients must send `KEY`; on a command line everybody sees it: prefer DS4_API_KEY or a file").secret = true
	s.Path(&a.KeyFile, "api-key-file", "", "clients must send one of the keys in `FILE`, one a line; lines that begin with # are skipped")
}

func checkKeyOrNone(key string) error {
	if key == "" {
		return nil
	}
	return checkKey(key)
}

// checkKey says what is wrong with a key, and never what it is.
func checkKey(key string) error {
	for i := range len(key) {
		if c := key[i]; c <= ' ' || c > '~' {
			return fmt.Errorf("a key consists of visible ASCII characters; number %d is none", i+1)
		}
	}
	if len(key) < minKeyBytes || len(key) > maxKeyBytes {
		return fmt.Errorf("a key has %d to %d characters, this one %d", minKeyBytes, maxKeyBytes, len(key))
	}
	return nil
}

// Keys returns the keys that are allowed in, none if everybody is.
func (a *Access) Keys() ([]string, error) {
	var keys []string
	if a.Key != "" {
		keys = append(keys, a.Key)
	}
	if a.KeyFile == "" {
		return keys, nil
	}
	f, err := os.Open(a.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("api-key-file: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxKeyFileBytes+1))
	if err != nil {
		return nil, fmt.Errorf("api-key-file: %w", err)
	}
	if len(data) > maxKeyFileBytes {
		return nil, fmt.Errorf("api-key-file %s: more than %d bytes", a.KeyFile, maxKeyFileBytes)
	}
	before, n := len(keys), 0
	for text := range bytes.Lines(data) {
		n++
		key := strings.TrimSpace(string(text))
		if key == "" || strings.HasPrefix(key, "#") {
			continue
		}
		if err := checkKey(key); err != nil {
			return nil, fmt.Errorf("api-key-file %s:%d: %w", a.KeyFile, n, err)
		}
		keys = append(keys, key)
	}
	switch {
	case len(keys) == before:
		return nil, fmt.Errorf("api-key-file %s: no key in it", a.KeyFile)
	case len(keys) > maxKeys:
		return nil, fmt.Errorf("api-key-file %s: more than %d keys", a.KeyFile, maxKeys)
	}
	return keys, nil
}
