package server

import (
	"encoding/json"
	"math/rand/v2"
	"strings"
	"testing"

	"ds4/runtime/chat"
)

// TestFreeInput: the pieces of the input are, together, what the whole arguments say,
// wherever they are cut between characters, and they come while the arguments do.
func TestFreeInput(t *testing.T) {
	for arguments, want := range map[string]string{
		`{"input":"a\nb \"c\" \\ \u00e9 \ud83d\ude00 \u2028é😀"}`: "a\nb \"c\" \\ é 😀 \u2028é😀",
		`{"input":""}`:                "",
		`{"input":"\ud83d","x":1}`:    "\ufffd",
		`{"input":"\ud83d\n\ud83dx"}`: "\ufffd\n\ufffdx",
		`{"input":"\ud83d\u0041"}`:    "\ufffdA",
		`{"input":"a","other":"b"}`:   "a",
		`{"other":"b","input":"a"}`:   "a",
		`{"patch":"*** Begin"}`:       "*** Begin",
		`{"input":7}`:                 `{"input":7}`,
		`{"a":"b","c":"d"}`:           `{"a":"b","c":"d"}`,
		`{}`:                          `{}`,
		`{"inputs":"x"}`:              "x",
	} {
		rng := rand.New(rand.NewPCG(1, 2))
		for range 200 {
			var f freeInput
			var told strings.Builder
			for rest := []rune(arguments); len(rest) > 0; {
				n := 1 + rng.IntN(len(rest))
				told.WriteString(f.write(string(rest[:n])))
				rest = rest[n:]
			}
			got, passed := f.whole()
			if got != want || passed && told.String() != want || !passed && told.Len() > 0 {
				t.Fatalf("%s: %q, passed %v %q, want %q", arguments, got, passed, told.String(), want)
			}
		}
	}
	var f freeInput
	if got := f.write(`{"input":"one `) + "|" + f.write(`two\`) + "|" + f.write(`nthree`); got != "one |two|\nthree" {
		t.Errorf("not as it comes: %q", got)
	}
}

// FuzzFreeInput: any input comes back, however its arguments are cut.
func FuzzFreeInput(f *testing.F) {
	f.Add("a\nb\"\\\x00é😀\ufffd", uint8(3), true)
	f.Fuzz(func(t *testing.T, input string, cut uint8, valid bool) {
		input = strings.ToValidUTF8(input, "\ufffd")
		arguments := string(appendJSON(nil, map[string]string{chat.FreeArgument: input}))
		if !valid {
			arguments = inputOpening + input
		}
		var in freeInput
		told := ""
		for rest := []rune(arguments); len(rest) > 0; {
			n := min(len(rest), 1+int(cut))
			told += in.write(string(rest[:n]))
			rest = rest[n:]
		}
		if got, passed := in.whole(); json.Valid([]byte(arguments)) && valid && (got != input || !passed || told != input) {
			t.Fatalf("%q: %q, passed %v, told %q", input, got, passed, told)
		}
	})
}
