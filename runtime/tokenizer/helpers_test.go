package tokenizer_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"sync"
	"testing"

	"ds4/runtime/model/tiny"
	"ds4/runtime/tokenizer"
)

// tinyTokenizer is the vocabulary of the embedded model.
var tinyTokenizer = sync.OnceValues(func() (*tokenizer.Tokenizer, error) {
	f, err := tiny.Open()
	if err != nil {
		return nil, err
	}
	return tokenizer.FromGGUF(f)
})

func openTiny(t testing.TB) *tokenizer.Tokenizer {
	t.Helper()
	tok, err := tinyTokenizer()
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

type golden struct {
	Text string  `json:"text"` // control tokens written as their strings
	IDs  []int32 `json:"ids"`
}

func readGolden(t testing.TB) []golden {
	t.Helper()
	data, err := os.ReadFile("testdata/golden.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	var list []golden
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var g golden
		if err := json.Unmarshal(lines.Bytes(), &g); err != nil {
			t.Fatal(err)
		}
		list = append(list, g)
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return list
}

// alphabet returns the 256 one-byte tokens in the order of the bytes, made
// independently of the package: what is printable in Latin-1 stays, the rest
// follows from U+0100.
func alphabet() []string {
	var list []string
	next := rune(256)
	for b := range rune(256) {
		if b >= '!' && b <= '~' || b >= '¡' && b <= '¬' || b >= '®' {
			list = append(list, string(b))
			continue
		}
		list = append(list, string(next))
		next++
	}
	return list
}

func decode(tok *tokenizer.Tokenizer, ids []int32) string {
	var b []byte
	for _, id := range ids {
		b = append(b, tok.Bytes(id)...)
	}
	return string(b)
}
