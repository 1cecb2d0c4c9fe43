package fault

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"ds4/metal"
)

// The language: rules separated by ';', each a list of KEY=VALUE separated by
// ','. A value is taken as it stands, or written as a Go string in double quotes
// when it holds one of , ; " or starts or ends with a space.

// Parse reads the rules of a plan. The empty text is a plan without rules.
func Parse(spec string) ([]Rule, error) {
	if len(spec) > MaxSpecBytes {
		return nil, fmt.Errorf("%w: %d bytes, the limit is %d", ErrRule, len(spec), MaxSpecBytes)
	}
	var rules []Rule
	for rest := spec; strings.TrimSpace(rest) != ""; {
		var r Rule
		var err error
		if r, rest, err = parseRule(rest); err != nil {
			return nil, fmt.Errorf("rule %d: %w", len(rules)+1, err)
		}
		if rules = append(rules, r); len(rules) > MaxRules {
			return nil, fmt.Errorf("%w: more than %d rules", ErrRule, MaxRules)
		}
	}
	return rules, nil
}

// Format prints rules so that Parse reads them back.
func Format(rules []Rule) string {
	list := make([]string, len(rules))
	for i, r := range rules {
		list[i] = r.String()
	}
	return strings.Join(list, ";")
}

// parseRule reads one rule up to its ';' or the end.
func parseRule(s string) (r Rule, rest string, err error) {
	seen := map[string]bool{}
	for {
		key, after, ok := strings.Cut(s, "=")
		if key = strings.TrimSpace(key); !ok || strings.ContainsAny(key, ",;") {
			return r, "", fmt.Errorf("%w: %q is not KEY=VALUE", ErrRule, head(s))
		}
		if seen[key] {
			return r, "", fmt.Errorf("%w: %s is given twice", ErrRule, key)
		}
		seen[key] = true
		value, end, after, err := parseValue(after)
		if err != nil {
			return r, "", fmt.Errorf("%w: %s: %w", ErrRule, key, err)
		}
		if err := r.set(key, value); err != nil {
			return r, "", fmt.Errorf("%w: %s=%s: %w", ErrRule, key, head(value), err)
		}
		if s = after; end != ',' {
			break
		}
	}
	return r, s, r.Validate()
}

// head cuts a text that an error quotes.
func head(s string) string {
	const limit = 60
	if len(s) > limit {
		return s[:limit] + "..."
	}
	return s
}

// parseValue reads a value and the separator after it; end is 0 at the end of s.
func parseValue(s string) (value string, end byte, rest string, err error) {
	s = strings.TrimLeft(s, " ")
	if strings.HasPrefix(s, `"`) {
		quoted, err := strconv.QuotedPrefix(s)
		if err != nil {
			return "", 0, "", fmt.Errorf("string without end: %s", head(s))
		}
		if value, err = strconv.Unquote(quoted); err != nil {
			return "", 0, "", err
		}
		s = strings.TrimLeft(s[len(quoted):], " ")
		if s != "" && s[0] != ',' && s[0] != ';' {
			return "", 0, "", fmt.Errorf("%q follows a string", head(s))
		}
	} else {
		i := strings.IndexAny(s, ",;")
		if i < 0 {
			i = len(s)
		}
		value, s = strings.TrimRight(s[:i], " "), s[i:]
	}
	if s == "" {
		return value, 0, "", nil
	}
	return value, s[0], s[1:], nil
}

// quote prints a value so that parseValue reads it back.
func quote(s string) string {
	plain := s != "" && s == strings.TrimSpace(s) && !strings.ContainsAny(s, `,;"`) && strconv.Quote(s) == `"`+s+`"`
	if plain {
		return s
	}
	return strconv.Quote(s)
}

var keys = []string{"at", "label", "op", "phase", "source", "range", "entry", "chunk", "n", "every", "times", "prob", "seed",
	"code", "text", "effect", "first", "sticky", "delay", "pass", "hang", "panic", "kill"}

// set assigns one key.
func (r *Rule) set(key, value string) (err error) {
	if value == "" {
		return fmt.Errorf("no value")
	}
	switch key {
	case "at":
		err = enum(&r.At, atNames, value)
	case "label":
		r.Label = value
	case "op":
		r.Op = value
	case "phase":
		r.Phase = value
	case "source":
		r.Source = value
	case "range":
		r.Range = value
	case "entry":
		r.Entry = value
	case "chunk":
		r.Chunk, err = count(value)
	case "n":
		r.N, err = count(value)
	case "every":
		r.Every, err = count(value)
	case "times":
		r.Times, err = count(value)
	case "prob":
		r.Prob, err = strconv.ParseFloat(value, 64)
	case "seed":
		r.Seed, err = strconv.ParseUint(value, 10, 64)
	case "code":
		r.Code, err = parseCode(value)
	case "text":
		r.Text = value
	case "effect":
		err = enum(&r.Effect, effectNames, value)
	case "first":
		r.First, err = count(value)
	case "sticky":
		err = enum(&r.Sticky, stickyNames, value)
	case "delay":
		r.Delay, err = time.ParseDuration(value)
	case "pass":
		r.Pass, err = strconv.ParseBool(value)
	case "hang":
		r.Hang, err = strconv.ParseBool(value)
	case "panic":
		r.Panic, err = strconv.ParseBool(value)
	case "kill":
		r.Kill, err = strconv.ParseBool(value)
	default:
		err = fmt.Errorf("unknown key; known: %s", strings.Join(keys, " "))
	}
	return err
}

// count reads a number that is not negative.
func count(value string) (int, error) {
	n, err := strconv.ParseUint(value, 10, 31)
	return int(n), err
}

// parseCode reads a code by number or by name.
func parseCode(value string) (metal.Code, error) {
	var known []string
	for _, c := range metal.Codes() {
		if c.String() == value {
			value = strconv.Itoa(int(c))
		}
		known = append(known, fmt.Sprintf("%d=%v", int(c), c))
	}
	n, err := count(value)
	if err != nil {
		return 0, fmt.Errorf("no code; known: %s", strings.Join(known, " "))
	}
	if n == 0 {
		return CodeZero, nil
	}
	return metal.Code(n), nil
}

// enum finds a word in a list.
func enum[T ~int](dst *T, names []string, value string) error {
	for i, n := range names {
		if n == value {
			*dst = T(i)
			return nil
		}
	}
	return fmt.Errorf("unknown word; known: %s", strings.Join(names, " "))
}
