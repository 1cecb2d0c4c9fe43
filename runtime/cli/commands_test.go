package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"testing"

	"ds4/runtime/gguf"
	"ds4/runtime/model/tiny"
)

// TestTokenizeGolden: the command prints the ids that the model was trained with.
func TestTokenizeGolden(t *testing.T) {
	data, err := os.ReadFile("../tokenizer/testdata/golden.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	type goldenText struct {
		Text string  `json:"text"`
		IDs  []int32 `json:"ids"`
	}
	var cases []goldenText
	for line := range bytes.Lines(data) {
		var c goldenText
		if err := json.Unmarshal(line, &c); err != nil {
			t.Fatal(err)
		}
		cases = append(cases, c)
	}
	if len(cases) < 10 {
		t.Fatalf("%d golden texts", len(cases))
	}
	for i, c := range cases {
		var out, errs bytes.Buffer
		code := Main([]string{"tokenize", "--json", "-"}, Streams{In: bytes.NewBufferString(c.Text), Out: &out, Err: &errs})
		want, _ := json.Marshal(c.IDs)
		if got := bytes.TrimSpace(out.Bytes()); code != 0 || !bytes.Equal(got, want) {
			t.Errorf("case %d: exit %d %s\n got %s\nwant %s", i, code, errs.String(), got, want)
		}
	}
}

// TestModelFileErrors: whatever is wrong with a file, the message names the file
// and the exit code is 2.
func TestModelFileErrors(t *testing.T) {
	whole := tiny.Bytes()
	dir := t.TempDir()
	write := func(name string, data []byte) string {
		path := dir + "/" + name
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	paths := []string{dir, dir + "/missing.gguf", write("empty.gguf", nil), write("text.gguf", []byte("not a model\n"))}
	for i := range 10 { // cut at ten places
		paths = append(paths, write(fmt.Sprintf("cut%d.gguf", i), whole[:len(whole)*(i+1)/11]))
	}
	for _, path := range paths {
		for _, args := range [][]string{{"model", "info", "-m", path}, {"run", "-m", path, "-p", "x"}, {"serve", "-m", path}} {
			var out, errs bytes.Buffer
			std := Streams{In: bytes.NewReader(nil), Out: &out, Err: &errs, Environ: []string{"DS4_LOCK_FILE=" + dir + "/lock"}}
			if code := Main(args, std); code != 2 || !bytes.Contains(errs.Bytes(), []byte(path)) || out.Len() > 0 {
				t.Errorf("%v: exit %d, %s", args, code, errs.String())
			}
		}
	}
	if _, err := gguf.Parse(whole, "tiny"); err != nil {
		t.Errorf("the whole file: %v", err)
	}
}
