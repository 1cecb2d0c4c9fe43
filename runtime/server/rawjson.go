package server

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// raw consumes one value and returns its bytes as they were sent, nil for null.
func (r *jsonReader) raw() (json.RawMessage, error) {
	begin := r.dec.InputOffset()
	tok, err := r.next()
	if err != nil || tok == nil {
		return nil, err
	}
	if err := r.skipRest(tok); err != nil {
		return nil, err
	}
	// What separates the value from the token before it belongs to neither.
	return bytes.TrimLeft(r.data[begin:r.dec.InputOffset()], " \t\r\n:,"), nil
}

// optionalObject reads an object, calling field for each of its names; null has none.
func (r *jsonReader) optionalObject(path string, field func(name string) error) error {
	tok, err := r.next()
	if err != nil || tok == nil {
		return err
	}
	if tok != json.Delim('{') {
		return badField(path, "want an object, got %s", kind(tok))
	}
	return r.fields(field)
}

// readStrings reads an array of at most most strings.
func readStrings(r *jsonReader, path string, most int) ([]string, error) {
	tok, err := r.next()
	if err != nil || tok == nil {
		return nil, err
	}
	if tok != json.Delim('[') {
		return nil, badField(path, "want an array of strings, got %s", kind(tok))
	}
	var list []string
	err = r.elements(func(i int, first json.Token) error {
		s, ok := first.(string)
		switch {
		case !ok:
			return badField(fmt.Sprintf("%s[%d]", path, i), "want a string, got %s", kind(first))
		case i == most:
			return badField(path, "more than %d strings", most)
		}
		list = append(list, s)
		return nil
	})
	return list, err
}

// onlyText reads the form in which a client wants its answer, {"type": ...}, and refuses
// every type but text.
func onlyText(r *jsonReader, path string) error {
	format := ""
	err := r.optionalObject(path, func(name string) (err error) {
		if name != "type" {
			return r.skip()
		}
		format, _, err = r.str(path + ".type")
		return err
	})
	if err == nil && format != "" && format != "text" {
		err = badField(path, "type %.32q is not supported; only text is", format)
	}
	return err
}
