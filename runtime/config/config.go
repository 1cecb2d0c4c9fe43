// Package config resolves the settings of a command from four layers: a flag
// wins over a DS4_* environment variable, that over the YAML file of --config,
// and that over the default. Every setting remembers which layer it came from.
//
// Promises. A value is checked, with its bounds, in whatever layer it stands, and
// the error names the place: the flag, the variable, or file and line. A file or
// variable may hold settings of other commands (one file can serve all of them);
// an unknown name in a file is an error, an unknown DS4_* variable a note, because
// other programs may own it. What --print-config prints loads again as a file.
//
// Not promised: relations between settings and the world (a directory that
// exists, memory that suffices). The commands check those.
package config

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/pflag"
)

// Layer says which of the four layers a value came from.
type Layer int

// The layers, weakest first.
const (
	LayerDefault Layer = iota
	LayerFile
	LayerEnv
	LayerFlag
)

// Origin is where a value came from. Its String is a place to look at:
// "default", "file ds4.yaml:3", "environment DS4_CTX", "flag --ctx".
type Origin struct {
	Layer Layer
	Place string // file:line, name of the variable, or the flag as typed
}

// String names the place.
func (o Origin) String() string {
	switch o.Layer {
	case LayerFile:
		return "file " + o.Place
	case LayerEnv:
		return "environment " + o.Place
	case LayerFlag:
		return "flag " + o.Place
	}
	return "default"
}

// Setting is one named value.
type Setting struct {
	Name   string // without dashes, as in a file
	Short  string // one letter, or empty
	Usage  string
	Origin Origin

	value    value
	flagOnly bool // no environment variable, no file key
	hidden   bool // not in usage texts
	secret   bool // never printed
	optional string
	alias    bool // another spelling of a setting; has no value of its own
}

// Env is the name of the environment variable of a setting.
func (s *Setting) Env() string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(s.Name, "-", "_"))
}

// Set is the list of settings of one command. The zero value is empty.
type Set struct {
	list  []*Setting
	index map[string]*Setting
	notes []string
}

// Sources is the world as Resolve sees it.
type Sources struct {
	Environ []string // KEY=VALUE, as os.Environ returns it
	// ReadFile reads the file of --config; nil means os.Open with the size limit.
	ReadFile func(name string) ([]byte, error)
}

// OS is the Sources of a real process.
func OS() Sources { return Sources{Environ: os.Environ()} }

// add registers a setting whose value already holds the default.
func (s *Set) add(st *Setting) *Setting {
	if s.index == nil {
		s.index = map[string]*Setting{}
	}
	if s.index[st.Name] != nil {
		panic("config: setting " + st.Name + " is registered twice")
	}
	s.index[st.Name] = st
	s.list = append(s.list, st)
	return st
}

// Lookup returns the setting with this name, nil if the command has none.
func (s *Set) Lookup(name string) *Setting { return s.index[name] }

// Settings returns the settings in the order of their registration.
func (s *Set) Settings() []*Setting { return s.list }

// Explicit reports whether a layer above the default set the value.
func (s *Set) Explicit(name string) bool {
	st := s.index[name]
	return st != nil && st.Origin.Layer != LayerDefault
}

// flagValue is a setting as pflag sees it.
type flagValue struct {
	s *Setting
}

func (f flagValue) String() string { return f.s.value.String() }

// Type is "bool" for a switch, so that the usage text shows it without a value.
func (f flagValue) Type() string {
	if f.s.optional == "true" {
		return "bool"
	}
	return "value"
}

func (f flagValue) Set(text string) error {
	if f.s.Origin.Layer != LayerFlag {
		f.s.value.Reset() // a list given by flags replaces the default
	}
	if err := f.s.value.Set(text); err != nil {
		return err
	}
	f.s.Origin = Origin{LayerFlag, "--" + f.s.Name}
	return nil
}

// AddFlags registers the settings on a flag set. Parsing it fills the strongest
// layer; Resolve fills the others.
func (s *Set) AddFlags(fs *pflag.FlagSet) {
	fs.SortFlags = false
	for _, st := range s.list {
		f := fs.VarPF(flagValue{st}, st.Name, st.Short, st.Usage)
		f.NoOptDefVal = st.optional
		f.Hidden = st.hidden
	}
}

// Resolve fills the layers below the flags, which are parsed already.
func (s *Set) Resolve(src Sources) error {
	env := environment(src.Environ)
	if err := s.applyEnv(env); err != nil {
		return err
	}
	file := ""
	if st := s.index[configFlag]; st != nil {
		file = st.value.String()
	}
	if file != "" {
		if err := s.applyFile(file, src); err != nil {
			return err
		}
	}
	s.collectNotes(env)
	return nil
}

// apply sets one value from a layer, unless a stronger one has set it.
func (s *Set) apply(name string, texts []string, o Origin) error {
	st := s.index[name]
	if st == nil || st.Origin.Layer > o.Layer {
		return nil
	}
	if !st.alias {
		st.value.Reset()
	}
	for _, text := range texts {
		if err := st.value.Set(text); err != nil {
			return &ValueError{Setting: name, Text: text, Origin: o, Err: err}
		}
	}
	st.Origin = o
	return nil
}

// Notes are lines worth saying once at start: settings that are accepted and
// have no effect, variables that look misspelt.
func (s *Set) Notes() []string { return s.notes }

func (s *Set) note(format string, args ...any) {
	s.notes = append(s.notes, fmt.Sprintf(format, args...))
}

func (s *Set) collectNotes(env map[string]string) {
	for _, st := range s.list {
		if ig, ok := st.value.(*ignoredValue); ok && st.Origin.Layer != LayerDefault {
			s.note("%s is ignored: %s", st.Origin, ig.reason)
		}
	}
	for _, name := range unknownVariables(env) {
		s.note("environment %s is not a setting of ds4", name)
	}
}
