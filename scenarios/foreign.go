package scenarios

import (
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Foreign says how a server that is not ds4 is started and reached. Such a server
// has none of our hooks: no fault points, no counters, no segment format. What a
// scenario needs of them is named by Unavailable.
//
// Every string may use $PORT, a free port; $KV, an empty directory for what the
// server keeps; $WORK, the directory around it; $HERE, the directory of the file
// that says this; $MODEL, the model that server names; and the environment.
type Foreign struct {
	Command []string          `json:"command,omitempty" jsonschema:"program and arguments of a server that is not ds4; $PORT, $KV, $WORK, $HERE, $MODEL and the environment are known"`
	Ready   string            `json:"ready,omitempty" jsonschema:"URL, or the path of one, that answers 200 once the server is ready; /v1/models if absent"`
	Port    Amount            `json:"port,omitempty" jsonschema:"where it listens: $PORT (default), which is a free one, or a number"`
	KVDir   string            `json:"kv_dir,omitempty" jsonschema:"where it keeps its files; $KV if absent"`
	API     string            `json:"api,omitempty" jsonschema:"chat (default) or completions"`
	Env     map[string]string `json:"env,omitempty" jsonschema:"added to its environment"`
	Here    string            `json:"-"`
}

// The ways to ask a server.
const (
	APIChat        = "chat"
	APICompletions = "completions"
)

// APIs lists them.
func APIs() []string { return []string{APIChat, APICompletions} }

// PortVariable in a port means a free one.
const PortVariable = "$PORT"

const maxCommandWords = 1000

// FixedPort is the number that Port says, 0 for a free one.
func (f *Foreign) FixedPort() (int, error) {
	const highest = 65535
	if f.Port == "" || f.Port == PortVariable || f.Port == "${PORT}" {
		return 0, nil
	}
	n, err := strconv.Atoi(string(f.Port))
	if err != nil || n < 1 || n > highest {
		return 0, fmt.Errorf("%w: port %q: want %s or 1 to %d", ErrInvalid, f.Port, PortVariable, highest)
	}
	return n, nil
}

var portUse = regexp.MustCompile(`\$(PORT\b|\{PORT\})`)

// check checks the description; given says that there has to be one.
func (f *Foreign) check() error {
	if len(f.Command) == 0 {
		if f.Ready != "" || f.Port != "" || f.KVDir != "" || f.API != "" || len(f.Env) > 0 {
			return fmt.Errorf("%w: ready, port, kv_dir, api and env need a command: ds4 is told in its own way", ErrInvalid)
		}
		return nil
	}
	if f.Command[0] == "" || len(f.Command) > maxCommandWords {
		return fmt.Errorf("%w: command: want a program and at most %d words", ErrInvalid, maxCommandWords)
	}
	port, err := f.FixedPort()
	if err != nil {
		return err
	}
	uses := slices.ContainsFunc(f.Command, portUse.MatchString)
	for _, v := range f.Env {
		uses = uses || portUse.MatchString(v)
	}
	if port == 0 && !uses {
		return fmt.Errorf("%w: command: it does not say $PORT, and port names no number: nobody knows where the server listens", ErrInvalid)
	}
	if f.API != "" {
		if err := checkWords([]string{f.API}, APIs(), "api"); err != nil {
			return err
		}
	}
	for _, s := range append([]string{f.Ready, f.KVDir}, f.Command...) {
		if _, err := ExpandString(s, lookupIn(nil)); err != nil {
			return err
		}
	}
	if !strings.HasPrefix(f.Ready, "/") && f.Ready != "" {
		u, err := url.Parse(portUse.ReplaceAllString(f.Ready, "1"))
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return fmt.Errorf("%w: ready %q: want an http URL, or a path that begins with /", ErrInvalid, f.Ready)
		}
	}
	return nil
}

// SplitCommand splits a command line at spaces; '...' and "..." hold words
// together, a backslash takes the next character as it is outside of '...'.
func SplitCommand(line string) ([]string, error) {
	var words []string
	var word strings.Builder
	open := false // a word has begun
	quote, escaped := rune(0), false
	for _, c := range line {
		switch {
		case escaped:
			word.WriteRune(c)
			escaped = false
		case c == '\\' && quote != '\'':
			open, escaped = true, true
		case quote != 0 && c == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(c)
		case c == '\'' || c == '"':
			open, quote = true, c
		case c == ' ' || c == '\t' || c == '\n':
			if open {
				words = append(words, word.String())
				word.Reset()
				open = false
			}
		default:
			open = true
			word.WriteRune(c)
		}
	}
	if quote != 0 || escaped {
		return nil, fmt.Errorf("%w: command %q: a quotation is not closed", ErrInvalid, line)
	}
	if open {
		words = append(words, word.String())
	}
	if len(words) == 0 {
		return nil, fmt.Errorf("%w: command %q: no word in it", ErrInvalid, line)
	}
	return words, nil
}

// Check checks a description that does not come from a scenario file.
func (f *Foreign) Check() error {
	if len(f.Command) == 0 {
		return fmt.Errorf("%w: no command", ErrInvalid)
	}
	return f.check()
}

// LoadForeign reads a file that holds a Foreign and nothing else.
func LoadForeign(path string) (*Foreign, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("scenarios: %w", err)
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, MaxFileBytes+1))
	if err != nil {
		return nil, fmt.Errorf("scenarios: read %s: %w", path, err)
	}
	f, err := decodeForeign(data, path)
	if err != nil {
		return nil, err
	}
	if f.Here, err = filepath.Abs(filepath.Dir(path)); err != nil {
		return nil, fmt.Errorf("scenarios: %w", err)
	}
	return f, nil
}

// decodeForeign parses and checks the text of such a file.
func decodeForeign(data []byte, name string) (*Foreign, error) {
	var f Foreign
	if err := decode(data, name, &f); err != nil {
		return nil, err
	}
	if err := f.Check(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return &f, nil
}

// checkServer checks how a scenario's server is started.
func (s *Scenario) checkServer() error {
	if err := s.Server.check(); err != nil {
		return err
	}
	if len(s.Server.Command) > 0 && len(s.Server.Args) > 0 {
		return fmt.Errorf("%w: args are flags of ds4: with a command, write them there", ErrInvalid)
	}
	return checkArgs(s.Server.Args)
}
