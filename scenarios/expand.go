package scenarios

import (
	"fmt"
	"reflect"
	"strings"
)

// Expand returns a deep copy of steps in which $NAME and ${NAME} are replaced in
// every string by lookup. $$ is a dollar sign; a dollar sign before anything
// else stands for itself. A name that lookup does not know is an error.
func Expand(steps []Step, lookup func(name string) (string, bool)) ([]Step, error) {
	e := expander{lookup: lookup}
	out := e.value(reflect.ValueOf(steps)).Interface().([]Step)
	return out, e.err
}

// ExpandString is Expand for one string.
func ExpandString(s string, lookup func(name string) (string, bool)) (string, error) {
	e := expander{lookup: lookup}
	s = e.text(s)
	return s, e.err
}

type expander struct {
	lookup func(string) (string, bool)
	err    error
}

func (e *expander) value(v reflect.Value) reflect.Value {
	out := reflect.New(v.Type()).Elem()
	switch v.Kind() {
	case reflect.String:
		out.SetString(e.text(v.String()))
	case reflect.Pointer:
		if !v.IsNil() {
			p := reflect.New(v.Type().Elem())
			p.Elem().Set(e.value(v.Elem()))
			out.Set(p)
		}
	case reflect.Interface:
		if !v.IsNil() {
			out.Set(e.value(v.Elem()))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			out.Field(i).Set(e.value(v.Field(i)))
		}
	case reflect.Slice:
		if !v.IsNil() {
			out.Set(reflect.MakeSlice(v.Type(), v.Len(), v.Len()))
			for i := range v.Len() {
				out.Index(i).Set(e.value(v.Index(i)))
			}
		}
	case reflect.Map:
		if !v.IsNil() {
			out.Set(reflect.MakeMapWithSize(v.Type(), v.Len()))
			for it := v.MapRange(); it.Next(); {
				out.SetMapIndex(it.Key(), e.value(it.Value()))
			}
		}
	default:
		out.Set(v)
	}
	return out
}

func isName(c byte) bool {
	return c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

func (e *expander) text(s string) string {
	if !strings.Contains(s, "$") {
		return s
	}
	var b strings.Builder
	for {
		before, after, found := strings.Cut(s, "$")
		b.WriteString(before)
		if !found {
			return b.String()
		}
		s = after
		if strings.HasPrefix(s, "$") {
			b.WriteByte('$')
			s = s[1:]
			continue
		}
		name := ""
		if strings.HasPrefix(s, "{") {
			var closed bool
			name, after, closed = strings.Cut(s[1:], "}")
			if !closed {
				e.fail("${%s is not closed", name)
				return b.String()
			}
			s = after
		} else {
			n := 0
			for n < len(s) && isName(s[n]) {
				n++
			}
			name, s = s[:n], s[n:]
			if name == "" {
				b.WriteByte('$')
				continue
			}
		}
		val, ok := e.lookup(name)
		if !ok {
			e.fail("unknown variable $%s", name)
		}
		b.WriteString(val)
	}
}

func (e *expander) fail(format string, args ...any) {
	if e.err == nil {
		e.err = fmt.Errorf("%w: "+format, append([]any{ErrInvalid}, args...)...)
	}
}
