package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"ds4/runtime/config"
)

// Defaults and limits of the measurement.
const (
	benchSegments    = 10_000
	maxBenchSegments = 1_000_000
	benchTokens      = 32768
	minBenchTokens   = 256 // below, fixed costs are all that is seen
	maxBenchTokens   = 1 << 20
	benchTurns       = 64
	maxBenchTurns    = 1024
	minTurnTokens    = 32 // of a turn; the frame of a turn takes some
)

// benchSettings say what is measured and how.
type benchSettings struct {
	settings
	model    config.Model
	kv       config.KV
	segments int
	tokens   int
	turns    int
	only     []string
	check    bool
	json     bool
}

func (a *app) kvBenchCommand() *cobra.Command {
	s := &benchSettings{}
	s.AddModel(&s.model)
	s.AddKV(&s.kv)
	s.Lookup("kv-disk-dir").Usage = "measure in `DIR`, which must be empty, instead of a temporary folder"
	cmd := a.command("bench [--only NAME,...] [--check] [--json]", "measure the cache: start, lookup, restore, restart, what is written",
		noArgs, &s.settings, func(cmd *cobra.Command, _ []string) error { return a.kvBench(cmd.Context(), s) })
	cmd.Long = `Measures the cache with the real store, engine and scheduler, in an empty folder that
is removed afterwards:

` + benchPartList() + `
Exit codes: 0 measured, 1 something failed, or with --check a bound is missed, 2 the
command line is wrong.`
	cmd.Example = `  ds4 kv bench --check
  ds4 kv bench --only start,lookup --segments 100000 --kv-disk-dir /mnt/disk/empty`
	f := cmd.Flags()
	f.StringSliceVar(&s.only, "only", nil, "measure these parts only, `NAME,...`")
	f.BoolVar(&s.check, "check", false, "exit 1 if a bound is missed")
	f.BoolVar(&s.json, "json", false, "print the figures as JSON")
	f.IntVar(&s.segments, "segments", benchSegments, "fill the folder of start and lookup with `N` segments")
	f.IntVar(&s.tokens, "tokens", benchTokens, "length of the conversations, `N` tokens")
	f.IntVar(&s.turns, "turns", benchTurns, "turns of the growing conversation, `N`")
	return cmd
}

// benchPart is what --only names.
type benchPart struct {
	name, what string
	run        func(*bench, context.Context) error
}

// benchParts are all parts, in the order in which they run.
var benchParts = []benchPart{
	{"start", "opening a folder of many segments, and what that allocates", (*bench).start},
	{"lookup", "finding a prompt of 1 MB among them", (*bench).lookup},
	{"prefill", "a cold prompt: how long the writer stalls it, how much it writes", (*bench).prefill},
	{"restart", "the first token of the same prompt after a restart", (*bench).restart},
	{"restore", "reading the conversation back into a session", (*bench).restore},
	{"growth", "a conversation of many turns: what is written for what remains", (*bench).growth},
}

func benchPartList() string {
	var b strings.Builder
	for _, p := range benchParts {
		fmt.Fprintf(&b, "  %-8s %s\n", p.name, p.what)
	}
	return b.String()
}

// choose refuses what cannot be measured, and chooses the parts.
func (s *benchSettings) choose() ([]benchPart, error) {
	for _, x := range []struct {
		name       string
		n, lo, top int
	}{
		{"segments", s.segments, segmentsPerChat, maxBenchSegments},
		{"tokens", s.tokens, minBenchTokens, maxBenchTokens},
		{"turns", s.turns, 1, min(maxBenchTurns, s.tokens/minTurnTokens)},
	} {
		if x.n < x.lo || x.n > x.top {
			return nil, badUsage("flag --%s: %d is not a whole number from %d to %d", x.name, x.n, x.lo, x.top)
		}
	}
	if s.kv.MinTokens > s.tokens/2 {
		return nil, badUsage("--kv-cache-min-tokens %d leaves nothing to measure with --tokens %d", s.kv.MinTokens, s.tokens)
	}
	s.model.Context = max(s.model.Context, s.tokens+benchSpareTokens)
	if len(s.only) == 0 {
		return benchParts, nil
	}
	var list []benchPart
	for _, name := range s.only {
		if !slices.ContainsFunc(benchParts, func(p benchPart) bool { return p.name == name }) {
			return nil, badUsage("flag --only: no part is called %q; there are\n%s", name, benchPartList())
		}
	}
	for _, p := range benchParts {
		if slices.Contains(s.only, p.name) {
			list = append(list, p)
		}
	}
	return list, nil
}

// bench is one run of the measurement.
type bench struct {
	*app
	s       *benchSettings
	dir     string // of everything that is written
	rows    []benchRow
	said    time.Time
	crowd   *crowd   // of start and lookup
	subject *subject // of prefill, restart and restore
}

// benchRow is one figure.
type benchRow struct {
	Name    string   `json:"name"` // the unit is its last word
	What    string   `json:"what"`
	Value   float64  `json:"value"`
	Bound   *float64 `json:"bound,omitempty"`
	AtLeast bool     `json:"at_least,omitempty"` // the bound is the least, not the most
	Verdict string   `json:"verdict,omitempty"`  // ok or missed
	Note    string   `json:"note,omitempty"`
	format  string
}

const (
	verdictOK     = "ok"
	verdictMissed = "missed"
)

// add notes a figure, without digits that no clock can tell.
func (b *bench) add(name, what, format string, value float64) *benchRow {
	value, _ = strconv.ParseFloat(strconv.FormatFloat(value, 'g', 6, 64), 64)
	b.rows = append(b.rows, benchRow{Name: name, What: what, Value: value, format: format})
	return &b.rows[len(b.rows)-1]
}

// note says what else is worth knowing of a figure.
func (r *benchRow) note(format string, args ...any) *benchRow {
	r.Note = fmt.Sprintf(format, args...)
	return r
}

// atMost and atLeast compare a figure with its bound.
func (r *benchRow) atMost(bound float64) { r.judge(bound, r.Value <= bound) }

func (r *benchRow) atLeast(bound float64) {
	r.AtLeast = true
	r.judge(bound, r.Value >= bound)
}

func (r *benchRow) judge(bound float64, met bool) {
	r.Bound, r.Verdict = &bound, verdictOK
	if !met {
		r.Verdict = verdictMissed
	}
}

// kvBench measures. A signal ends it; whatever ends it, the folder is removed.
func (a *app) kvBench(ctx context.Context, s *benchSettings) (err error) {
	parts, err := s.choose()
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	dir, remove, err := benchFolder(s.kv.Dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove()) }()
	b := &bench{app: a, s: s, dir: dir}
	for _, p := range parts {
		if err := p.run(b, ctx); err != nil {
			if ctx.Err() != nil {
				return &exitError{code: exitInterrupted}
			}
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	return b.finish()
}

// finish prints the figures and judges them, if that was asked for.
func (b *bench) finish() error {
	if err := b.print(); err != nil {
		return err
	}
	if missed := b.missed(); b.s.check && missed > 0 {
		return &exitError{exitFailure, fmt.Errorf("%d of %d bounds are missed", missed, b.bounds())}
	}
	return nil
}

// benchFolder returns an empty folder, and what removes all that was put into it.
// A folder of the user's must be empty: nothing in it can be his then.
func benchFolder(dir string) (string, func() error, error) {
	if dir == "" {
		dir, err := os.MkdirTemp("", "ds4-kv-bench-")
		return dir, func() error { return os.RemoveAll(dir) }, err
	}
	_, err := os.Lstat(dir)
	isNew := errors.Is(err, os.ErrNotExist)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", nil, err
	}
	if isNew {
		return dir, func() error { return os.RemoveAll(dir) }, nil
	}
	names, err := readNames(dir)
	if err != nil {
		return "", nil, err
	}
	if len(names) > 0 {
		return "", nil, badUsage("--kv-disk-dir %s is not empty: the measurement fills and removes a folder of its own", dir)
	}
	return dir, func() error {
		names, err := readNames(dir)
		for _, name := range names {
			err = errors.Join(err, os.RemoveAll(filepath.Join(dir, name)))
		}
		return err
	}, nil
}

func readNames(dir string) ([]string, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	return names, err
}

// progress tells whoever waits, not too often.
func (b *bench) progress(what string, done, total int) {
	if now := time.Now(); now.Sub(b.said) >= progressEvery {
		b.said = now
		fmt.Fprintf(b.Err, "%s %d/%d\n", what, done, total)
	}
}

func (b *bench) bounds() int {
	n := 0
	for _, r := range b.rows {
		if r.Bound != nil {
			n++
		}
	}
	return n
}

func (b *bench) missed() int {
	n := 0
	for _, r := range b.rows {
		if r.Verdict == verdictMissed {
			n++
		}
	}
	return n
}

func (b *bench) print() error {
	if b.s.json {
		return writeIndented(b.Out, struct {
			Version string     `json:"version"`
			Go      string     `json:"go"`
			System  string     `json:"system"`
			CPUs    int        `json:"cpus"`
			Model   string     `json:"model"`
			Rows    []benchRow `json:"rows"`
		}{versionText(), runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH, runtime.NumCPU(), modelID(b.s.model.Path), b.rows})
	}
	return printRows(b.Out, b.rows)
}

func printRows(w io.Writer, rows []benchRow) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "what\tmeasured\tbound\tverdict\t")
	for _, r := range rows {
		bound := ""
		if r.Bound != nil {
			sign := "<="
			if r.AtLeast {
				sign = ">="
			}
			bound = sign + " " + fmt.Sprintf(r.format, *r.Bound)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", r.What, fmt.Sprintf(r.format, r.Value), bound, r.Verdict, r.Note)
	}
	return t.Flush()
}
