package failpoint

import (
	"fmt"
	"math"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"
)

const (
	maxRuleBytes = 4096           // length of a rule's text
	maxDelay     = 24 * time.Hour // delay and hang
	maxRules     = 256            // rules of one Arm

	maxSkew = 20 * 365 * 24 * time.Hour // either way: times stay within what files can hold
)

var (
	keys    = []string{"after", "every", "match", "n", "nth", "prob", "times"}
	sources = []string{"disk", "memory", "cold"}
	matches = []string{"disk", "memory", "cold", "entry", "entry(PREFIX)", "range", "range(PREFIX)"}
)

// Parse reads one rule:
//
//	POINT[(n=K)|(after=BYTES)]=ACTION[(ARGS)]{:KEY=VALUE}
//
// A colon or comma inside balanced parentheses belongs to the argument, so that
// err(Internal Error (00000001:Internal Error)) needs no quoting. An unknown
// word is an error that lists the known ones.
func Parse(text string) (Rule, error) {
	var r Rule
	parts, err := Split(text)
	if err != nil {
		return r, err
	}
	if err := r.parseHead(parts[0]); err != nil {
		return Rule{}, fmt.Errorf("%w: %q: %v", ErrSyntax, text, err)
	}
	seen := map[string]bool{"n": r.N > 0, "after": r.After > 0}
	for _, p := range parts[1:] {
		if err := r.parseKey(p, seen); err != nil {
			return Rule{}, fmt.Errorf("%w: %q: %v", ErrSyntax, text, err)
		}
	}
	if err := r.check(); err != nil {
		return Rule{}, fmt.Errorf("%w: %q: %v", ErrSyntax, text, err)
	}
	return r, nil
}

// Split is the first step of every language of rules here: it refuses texts that
// no log line could hold and splits the others at colons outside of parentheses.
func Split(text string) ([]string, error) {
	text = strings.TrimSpace(text)
	if len(text) > maxRuleBytes {
		return nil, fmt.Errorf("%w: %d bytes, the limit is %d", ErrSyntax, len(text), maxRuleBytes)
	}
	if strings.ContainsFunc(text, func(c rune) bool { return c < ' ' || c == 0x7f || c == '\ufffd' }) {
		return nil, fmt.Errorf("%w: %q has control characters or invalid UTF-8", ErrSyntax, text)
	}
	parts, err := splitTop(text, ':')
	if err != nil {
		return nil, fmt.Errorf("%w: %q: %v", ErrSyntax, text, err)
	}
	return parts, nil
}

// splitTop splits at separators outside of parentheses.
func splitTop(s string, sep byte) ([]string, error) {
	var parts []string
	depth, start := 0, 0
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '(':
			depth++
		case s[i] == ')':
			if depth--; depth < 0 {
				return nil, fmt.Errorf("')' at byte %d closes nothing", i)
			}
		case s[i] == sep && depth == 0:
			parts = append(parts, s[start:i])
			start = i + 1
		}
	}
	if depth != 0 {
		return nil, fmt.Errorf("%d '(' not closed", depth)
	}
	return append(parts, s[start:]), nil
}

// parseHead reads POINT[(KEY=VALUE)]=ACTION.
func (r *Rule) parseHead(s string) error {
	sides, err := splitTop(s, '=')
	if err != nil {
		return err
	}
	if len(sides) < 2 {
		return fmt.Errorf("want POINT=ACTION")
	}
	action := strings.Join(sides[1:], "=")
	name, arg, hasArg, err := call(sides[0])
	if err != nil {
		return err
	}
	r.Point = name
	if _, ok := Lookup(name); !ok {
		return fmt.Errorf("unknown point %q; known: %s", name, strings.Join(knownPoints(), " "))
	}
	if hasArg {
		k, v, _ := strings.Cut(arg, "=")
		if k != "n" && k != "after" {
			return fmt.Errorf("%q after a point; known: n=K after=BYTES", arg)
		}
		if err := r.setKey(k, v); err != nil {
			return err
		}
	}
	r.Action, err = ParseAction(action, kinds)
	return err
}

// call splits word or word(arg), where the closing parenthesis ends the text.
func call(s string) (word, arg string, hasArg bool, err error) {
	word, rest, ok := strings.Cut(s, "(")
	if !ok {
		return s, "", false, nil
	}
	if !strings.HasSuffix(rest, ")") {
		return "", "", false, fmt.Errorf("%q goes on after ')'", s)
	}
	return word, rest[:len(rest)-1], true, nil
}

// ParseAction reads WORD[(ARGS)]. A word that is not among known is an error that
// lists those.
func ParseAction(s string, known []Kind) (Action, error) {
	var a Action
	word, arg, hasArg, err := call(s)
	if err != nil {
		return a, err
	}
	a.Kind = Kind(word)
	if !slices.Contains(known, a.Kind) {
		return a, fmt.Errorf("unknown action %q; known: %s", word, strings.Join(kindNames(known), " "))
	}
	return a, a.parseArgs(arg, hasArg)
}

func (a *Action) parseArgs(arg string, hasArg bool) (err error) {
	switch a.Kind {
	case KindErr:
		a.Text = arg
		return nil
	case KindMetal:
		return a.parseMetal(arg)
	case KindShort:
		a.Count, a.Pct, err = ParseShare(string(a.Kind), arg)
		return err
	case KindFlip:
		a.Offset, err = number(string(a.Kind), arg)
		return err
	case KindZero:
		off, n, ok := strings.Cut(arg, ",")
		if !ok {
			return fmt.Errorf("want zero(OFF,N)")
		}
		if a.Offset, err = number(string(a.Kind), off); err != nil {
			return err
		}
		a.Count, err = number(string(a.Kind), n)
		return err
	case KindDelay, KindHang:
		if !hasArg && a.Kind == KindHang {
			return nil
		}
		a.Delay, err = time.ParseDuration(arg)
		if err != nil || a.Delay <= 0 || a.Delay > maxDelay {
			return fmt.Errorf("%s(%s): want a duration above 0, at most %v", a.Kind, arg, maxDelay)
		}
		return nil
	case KindSkew:
		a.Delay, err = time.ParseDuration(arg)
		if err != nil || a.Delay == 0 || a.Delay.Abs() > maxSkew {
			return fmt.Errorf("skew(%s): want a duration other than 0, at most %v either way", arg, maxSkew)
		}
		return nil
	}
	if hasArg {
		return fmt.Errorf("%s takes no argument", a.Kind)
	}
	return nil
}

// ParseShare reads a number of bytes, N, or a share of them, P%.
func ParseShare(what, s string) (n int64, pct bool, err error) {
	num, pct := strings.CutSuffix(s, "%")
	if n, err = number(what, num); err == nil && pct && n > 100 {
		err = fmt.Errorf("%s(%s): more than 100%%", what, s)
	}
	return n, pct, err
}

// parseMetal reads CODE[,TEXT][,effect=..][,sticky=..]; TEXT may hold commas.
func (a *Action) parseMetal(arg string) error {
	parts, err := splitTop(arg, ',')
	if err != nil {
		return err
	}
	a.Code = parts[0]
	if _, err := a.CodeNumber(); err != nil {
		return fmt.Errorf("metal code %q; known: %s, or a number", a.Code, strings.Join(codeNames(), " "))
	}
	var text []string
	for _, p := range parts[1:] {
		if v, ok := strings.CutPrefix(p, "effect="); ok {
			if !slices.Contains(metalEffects, v) {
				return fmt.Errorf("unknown effect %q; known: %s", v, strings.Join(metalEffects, " "))
			}
			a.Effect = v
			continue
		}
		if v, ok := strings.CutPrefix(p, "sticky="); ok {
			if !slices.Contains(metalSticky, v) {
				return fmt.Errorf("unknown sticky %q; known: %s", v, strings.Join(metalSticky, " "))
			}
			a.Sticky = v
			continue
		}
		if a.Effect != "" || a.Sticky != "" {
			return fmt.Errorf("metal: %q after effect or sticky; the text comes before them", p)
		}
		text = append(text, p)
	}
	a.Text = strings.Join(text, ",")
	if len(text) > 0 && a.Text == "" {
		return fmt.Errorf("metal: empty text")
	}
	return nil
}

func (r *Rule) parseKey(s string, seen map[string]bool) error {
	k, v, hasValue := strings.Cut(s, "=")
	if !hasValue && k == "every" {
		v, hasValue = "1", true
	}
	if !slices.Contains(keys, k) {
		return fmt.Errorf("unknown key %q; known: %s", k, strings.Join(keys, " "))
	}
	if !hasValue {
		return fmt.Errorf("key %q needs a value", k)
	}
	if seen[k] {
		return fmt.Errorf("key %q twice", k)
	}
	seen[k] = true
	return r.setKey(k, v)
}

func (r *Rule) setKey(k, v string) (err error) {
	switch k {
	case "match":
		return r.setMatch(v)
	case "after":
		r.After, err = number(k, v)
		return err
	case "n":
		r.N, err = positive(k, v)
		return err
	}
	return r.Trigger.Set(k, v)
}

func (r *Rule) setMatch(v string) error {
	word, arg, hasArg, err := call(v)
	if err != nil {
		return err
	}
	switch {
	case slices.Contains(sources, word) && !hasArg:
	case (word == "entry" || word == "range") && (!hasArg || isWord(arg)):
	default:
		return fmt.Errorf("unknown match %q; known: %s", v, strings.Join(matches, " "))
	}
	r.Match = v
	return nil
}

// check refuses what parses but makes no sense for its point.
func (r *Rule) check() error {
	in, _ := Lookup(r.Point)
	if err := r.Trigger.Check(); err != nil {
		return err
	}
	if in.Device && r.Nth > 0 && r.Every > 0 {
		return fmt.Errorf("nth and every exclude each other at points of the device")
	}
	if r.N > 0 && r.After > 0 {
		return fmt.Errorf("n and after exclude each other")
	}
	switch r.Action.Kind {
	case KindMetal:
		if !in.Device {
			return fmt.Errorf("metal(...) applies to device points only; %s belongs to %s", r.Point, in.Owner)
		}
	case KindFlip, KindZero, KindShort:
		if !in.Data {
			return fmt.Errorf("%s applies to points that see bytes; %s does not", r.Action.Kind, r.Point)
		}
	}
	if (r.Action.Kind == KindSkew) != in.Clock {
		return fmt.Errorf("skew applies to a clock, and nothing else does; %s with %s", r.Point, r.Action.Kind)
	}
	return nil
}

// number reads a plain decimal, not negative.
func number(what, s string) (int64, error) {
	n, err := strconv.ParseUint(s, 10, 63)
	if err != nil {
		return 0, fmt.Errorf("%s: %q is not a number from 0 to %d", what, s, int64(math.MaxInt64))
	}
	return int64(n), nil
}

func isWord(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(c rune) bool {
		return !(c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || c == '-')
	})
}

// positive reads a count from 1 on.
func positive(what, s string) (int, error) {
	n, err := number(what, s)
	if err == nil && (n < 1 || n > math.MaxInt32) {
		err = fmt.Errorf("%s=%s: want 1 to %d", what, s, math.MaxInt32)
	}
	return int(n), err
}

func kindNames(kinds []Kind) []string {
	var names []string
	for _, k := range kinds {
		names = append(names, string(k))
	}
	sort.Strings(names)
	return names
}

func codeNames() []string {
	var names []string
	for n := range MetalCodes {
		names = append(names, n)
	}
	sort.Slice(names, func(i, j int) bool { return MetalCodes[names[i]] < MetalCodes[names[j]] })
	return names
}
