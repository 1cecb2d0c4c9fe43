package config

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// value is what a setting holds.
type value interface {
	Set(text string) error
	String() string // Set reads it back
	// Reset is called before a layer sets the value: lists become empty.
	Reset()
}

// scalar is a value of any type with its parser.
type scalar[T any] struct {
	p      *T
	parse  func(string) (T, error)
	format func(T) string
}

func (v *scalar[T]) Set(text string) error {
	x, err := v.parse(text)
	if err == nil {
		*v.p = x
	}
	return err
}

func (v *scalar[T]) String() string {
	if v == nil || v.p == nil {
		return ""
	}
	return v.format(*v.p)
}

func (v *scalar[T]) Reset() {}

// Var registers a setting of any type.
func Var[T any](s *Set, p *T, name, short string, def T, parse func(string) (T, error), format func(T) string, usage string) *Setting {
	*p = def
	return s.add(&Setting{Name: name, Short: short, Usage: usage, value: &scalar[T]{p, parse, format}})
}

// parseInt reads a plain decimal number: digits only, as the original's flags.
func parseInt(text string, lo, hi int64) (int64, error) {
	n, err := strconv.ParseInt(text, 10, 64)
	digits := strings.TrimPrefix(text, "-")
	if err != nil || digits == "" || strings.Trim(digits, "0123456789") != "" || n < lo || n > hi {
		return 0, fmt.Errorf("%q is not a whole number from %d to %d", clip(text), lo, hi)
	}
	return n, nil
}

// Int registers a whole number within [lo, hi].
func (s *Set) Int(p *int, name, short string, def, lo, hi int, usage string) *Setting {
	return Var(s, p, name, short, def, func(text string) (int, error) {
		n, err := parseInt(text, int64(lo), int64(hi))
		return int(n), err
	}, strconv.Itoa, usage)
}

// Uint64 registers a number of 64 bits.
func (s *Set) Uint64(p *uint64, name, short string, def uint64, usage string) *Setting {
	return Var(s, p, name, short, def, func(text string) (uint64, error) {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil || strings.HasPrefix(text, "+") {
			return 0, fmt.Errorf("%q is not a whole number from 0 to %d", clip(text), uint64(1<<64-1))
		}
		return n, nil
	}, func(n uint64) string { return strconv.FormatUint(n, 10) }, usage)
}

// Float registers a finite number within [lo, hi].
func (s *Set) Float(p *float64, name, short string, def, lo, hi float64, usage string) *Setting {
	return Var(s, p, name, short, def, func(text string) (float64, error) {
		x, err := strconv.ParseFloat(text, 64)
		if err != nil || !(x >= lo && x <= hi) {
			return 0, fmt.Errorf("%q is not a number from %g to %g", clip(text), lo, hi)
		}
		return x, nil
	}, func(x float64) string { return strconv.FormatFloat(x, 'g', -1, 64) }, usage)
}

// Bool registers a switch; as a flag it needs no value.
func (s *Set) Bool(p *bool, name, short string, def bool, usage string) *Setting {
	st := Var(s, p, name, short, def, parseBool, strconv.FormatBool, usage)
	st.optional = "true"
	return st
}

func parseBool(text string) (bool, error) {
	switch strings.ToLower(text) {
	case "on", "true", "yes", "1":
		return true, nil
	case "off", "false", "no", "0":
		return false, nil
	}
	return false, fmt.Errorf("%q is neither on nor off", clip(text))
}

// String registers a text; check, if not nil, says whether a text will do.
func (s *Set) String(p *string, name, short, def string, check func(string) error, usage string) *Setting {
	return Var(s, p, name, short, def, func(text string) (string, error) {
		if strings.ContainsRune(text, 0) {
			return "", fmt.Errorf("%q contains a NUL byte", clip(text))
		}
		if check != nil {
			if err := check(text); err != nil {
				return "", err
			}
		}
		return text, nil
	}, func(text string) string { return text }, usage)
}

// Path registers the name of a file or folder. A tilde in front is the home folder, also
// where no shell has seen it: in a file, in the environment of a service, after --flag=.
func (s *Set) Path(p *string, name, short, usage string) *Setting {
	return Var(s, p, name, short, "", func(text string) (string, error) {
		if strings.ContainsRune(text, 0) {
			return "", fmt.Errorf("%q contains a NUL byte", clip(text))
		}
		if text != "~" && !strings.HasPrefix(text, "~/") {
			return text, nil
		}
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("%q: %w", clip(text), err)
		}
		return filepath.Join(home, text[1:]), nil
	}, func(text string) string { return text }, usage)
}

// Enum registers one word of a list.
func (s *Set) Enum(p *string, name, short, def string, words []string, usage string) *Setting {
	return s.String(p, name, short, def, func(text string) error {
		if !slices.Contains(words, text) {
			return fmt.Errorf("%q is unknown, want %s", clip(text), strings.Join(words, ", "))
		}
		return nil
	}, usage)
}

// Duration registers a time span within [lo, hi], as time.ParseDuration reads it.
func (s *Set) Duration(p *time.Duration, name, short string, def, lo, hi time.Duration, usage string) *Setting {
	return Var(s, p, name, short, def, func(text string) (time.Duration, error) {
		d, err := time.ParseDuration(text)
		if err != nil || d < lo || d > hi {
			return 0, fmt.Errorf("%q is not a duration from %v to %v (such as 30s or 10m)", clip(text), lo, hi)
		}
		return d, nil
	}, time.Duration.String, usage)
}

// listValue collects one element per Set.
type listValue[T any] struct {
	p      *[]T
	parse  func(string) (T, error)
	format func(T) string
	limit  int
}

func (v *listValue[T]) Set(text string) error {
	if len(*v.p) >= v.limit {
		return fmt.Errorf("more than %d values", v.limit)
	}
	x, err := v.parse(text)
	if err == nil {
		*v.p = append(*v.p, x)
	}
	return err
}

func (v *listValue[T]) String() string { return strings.Join(v.strings(), "\n") }

func (v *listValue[T]) strings() []string {
	var list []string
	if v == nil || v.p == nil {
		return nil
	}
	for _, x := range *v.p {
		list = append(list, v.format(x))
	}
	return list
}

func (v *listValue[T]) Reset() { *v.p = nil }

// List registers a setting that may be given several times.
func List[T any](s *Set, p *[]T, name, short string, limit int, parse func(string) (T, error), format func(T) string, usage string) *Setting {
	return s.add(&Setting{Name: name, Short: short, Usage: usage, value: &listValue[T]{p, parse, format, limit}})
}

// ignoredValue accepts what the original accepts and has no effect.
type ignoredValue struct {
	text, reason string
	check        func(string) error
}

func (v *ignoredValue) Set(text string) error {
	if err := v.check(text); err != nil {
		return err
	}
	v.text = text
	return nil
}
func (v *ignoredValue) String() string { return v.text }
func (v *ignoredValue) Reset()         {}

// rejectedValue is a setting of the original that this program refuses.
type rejectedValue struct{ reason string }

func (v *rejectedValue) Set(string) error { return fmt.Errorf("not supported: %s", v.reason) }
func (v *rejectedValue) String() string   { return "" }
func (v *rejectedValue) Reset()           {}

// aliasValue sets another setting to a fixed value.
type aliasValue struct {
	flag, text string
	target     *Setting
}

func (v *aliasValue) Set(text string) error {
	on, err := parseBool(text)
	if err != nil || !on {
		return err
	}
	if err := v.target.value.Set(v.text); err != nil {
		return err
	}
	v.target.Origin = Origin{LayerFlag, "--" + v.flag}
	return nil
}
func (v *aliasValue) String() string { return "" }
func (v *aliasValue) Reset()         {}

// Alias registers --name as another way to write --target=text. Of several the
// last one on the command line wins.
func (s *Set) Alias(name string, target *Setting, text, usage string) *Setting {
	return s.add(&Setting{Name: name, Usage: usage, optional: "true", flagOnly: true, alias: true,
		value: &aliasValue{flag: name, text: text, target: target}})
}

// clip bounds what an error repeats of a value.
func clip(text string) string {
	const maxShown = 80
	if len(text) > maxShown {
		return text[:maxShown] + "..."
	}
	return text
}
