package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
)

// maxJSONDepth bounds the nesting of a request; a chat request needs five levels,
// tool schemas some more.
const maxJSONDepth = 64

// jsonReader walks a JSON document once, without building a tree. encoding/json
// checks the grammar; what this type adds are the rules of the API that
// json.Unmarshal has otherwise: names match exactly, a repeated name replaces the
// former value instead of being merged into it, null is the same as absent, numbers
// never fail by size, nesting is bounded, and nothing may follow the document.
type jsonReader struct {
	dec   *json.Decoder
	data  []byte
	depth int
}

// newJSONReader reads the document in data.
func newJSONReader(data []byte) *jsonReader {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	return &jsonReader{dec: dec, data: data}
}

// next returns the next token: json.Delim, string, json.Number, bool or nil.
func (r *jsonReader) next() (json.Token, error) {
	tok, err := r.dec.Token()
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, badJSON("at byte %d: %s", r.dec.InputOffset(), jsonFault(err))
	}
	switch tok {
	case json.Delim('{'), json.Delim('['):
		if r.depth++; r.depth > maxJSONDepth {
			return nil, badJSON("nested deeper than %d levels", maxJSONDepth)
		}
	case json.Delim('}'), json.Delim(']'):
		r.depth--
	}
	return tok, nil
}

func jsonFault(err error) string {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return "the document ends too early"
	}
	return err.Error()
}

// document reads the one object that a request body is.
func (r *jsonReader) document(field func(name string) error) error {
	tok, err := r.next()
	if err != nil {
		return err
	}
	if tok != json.Delim('{') {
		return badJSON("want an object, got %s", kind(tok))
	}
	if err := r.fields(field); err != nil {
		return err
	}
	if _, err := r.dec.Token(); !errors.Is(err, io.EOF) {
		return badJSON("more follows the object that ends before byte %d", r.dec.InputOffset())
	}
	return nil
}

// fields calls field for each name of an object whose brace was read. field must
// consume the value.
func (r *jsonReader) fields(field func(name string) error) error {
	for {
		tok, err := r.next()
		if err != nil {
			return err
		}
		if tok == json.Delim('}') {
			return nil
		}
		name, ok := tok.(string)
		if !ok {
			return badJSON("want a field name, got %s", kind(tok))
		}
		if err := field(name); err != nil {
			return err
		}
	}
}

// elements calls elem with the first token of each element of an array whose
// bracket was read. elem must consume the rest of the element.
func (r *jsonReader) elements(elem func(i int, first json.Token) error) error {
	for i := 0; ; i++ {
		tok, err := r.next()
		if err != nil {
			return err
		}
		if tok == json.Delim(']') {
			return nil
		}
		if err := elem(i, tok); err != nil {
			return err
		}
	}
}

// skip consumes one value.
func (r *jsonReader) skip() error {
	tok, err := r.next()
	if err != nil {
		return err
	}
	return r.skipRest(tok)
}

// skipRest consumes what remains of the value that began with first.
func (r *jsonReader) skipRest(first json.Token) error {
	if first != json.Delim('{') && first != json.Delim('[') {
		return nil
	}
	for level := r.depth; r.depth >= level; {
		if _, err := r.next(); err != nil {
			return err
		}
	}
	return nil
}

// rawRest consumes what remains of an object or array that began with first, and
// returns its text as the client wrote it.
func (r *jsonReader) rawRest(first json.Token) (string, error) {
	start := r.dec.InputOffset() - 1 // first is one byte
	if err := r.skipRest(first); err != nil {
		return "", err
	}
	return string(r.data[start:r.dec.InputOffset()]), nil
}

// object reads an object as its text; "" for null.
func (r *jsonReader) object(path string) (string, error) {
	tok, err := r.next()
	if err != nil || tok == nil {
		return "", err
	}
	if tok != json.Delim('{') {
		return "", badField(path, "want an object, got %s", kind(tok))
	}
	return r.rawRest(tok)
}

// list calls elem with the first token of each element of an array; elem must
// consume the rest; present is false for null.
func (r *jsonReader) list(path string, limit int, elem func(first json.Token, path string) error) (present bool, err error) {
	tok, err := r.next()
	if err != nil || tok == nil {
		return false, err
	}
	if tok != json.Delim('[') {
		return false, badField(path, "want an array, got %s", kind(tok))
	}
	return true, r.elements(func(i int, first json.Token) error {
		if i == limit {
			return badField(path, "more than %d", limit)
		}
		return elem(first, fmt.Sprintf("%s[%d]", path, i))
	})
}

// str reads a string; present is false for null.
func (r *jsonReader) str(path string) (s string, present bool, err error) {
	tok, err := r.next()
	if err != nil || tok == nil {
		return "", false, err
	}
	s, ok := tok.(string)
	if !ok {
		return "", false, badField(path, "want a string, got %s", kind(tok))
	}
	return s, true, nil
}

// word reads a string; null says otherwise.
func (r *jsonReader) word(path, otherwise string) (string, error) {
	s, present, err := r.str(path)
	if !present {
		s = otherwise
	}
	return s, err
}

// boolean reads true or false; nil for null.
func (r *jsonReader) boolean(path string) (*bool, error) {
	tok, err := r.next()
	if err != nil || tok == nil {
		return nil, err
	}
	b, ok := tok.(bool)
	if !ok {
		return nil, badField(path, "want true or false, got %s", kind(tok))
	}
	return &b, nil
}

// number reads a number; nil for null. A magnitude beyond float64 becomes infinite.
func (r *jsonReader) number(path string) (*float64, error) {
	tok, err := r.next()
	if err != nil || tok == nil {
		return nil, err
	}
	n, ok := tok.(json.Number)
	if !ok {
		return nil, badField(path, "want a number, got %s", kind(tok))
	}
	f, err := strconv.ParseFloat(n.String(), 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return nil, badField(path, "want a number, got %.32q", n.String())
	}
	return &f, nil
}

// integer reads a number as an integer: fractions are cut off, what does not fit
// is clamped. nil for null.
func (r *jsonReader) integer(path string) (*int64, error) {
	tok, err := r.next()
	if err != nil || tok == nil {
		return nil, err
	}
	n, ok := tok.(json.Number)
	if !ok {
		return nil, badField(path, "want a number, got %s", kind(tok))
	}
	if i, err := strconv.ParseInt(n.String(), 10, 64); err == nil {
		return &i, nil // exact, also beyond 2^53
	}
	f, err := strconv.ParseFloat(n.String(), 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return nil, badField(path, "want a number, got %.32q", n.String())
	}
	i := clampInt64(f)
	return &i, nil
}

func clampInt64(f float64) int64 {
	switch {
	case math.IsNaN(f):
		return 0
	case f >= math.MaxInt64: // the constant rounds up to 2^63, which does not fit
		return math.MaxInt64
	case f <= math.MinInt64:
		return math.MinInt64
	}
	return int64(f)
}

// kind names the type of the value that a token begins, for error messages.
func kind(tok json.Token) string {
	switch t := tok.(type) {
	case nil:
		return "null"
	case string:
		return "a string"
	case json.Number:
		return "a number"
	case bool:
		return strconv.FormatBool(t)
	case json.Delim:
		switch t {
		case '{':
			return "an object"
		case '[':
			return "an array"
		}
		return fmt.Sprintf("%q", rune(t))
	}
	return "something else"
}
