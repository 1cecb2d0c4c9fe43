package cli

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"ds4/runtime/config"
	"ds4/runtime/tokenizer"
)

// maxTextBytes bounds a text that a command reads as a whole.
const maxTextBytes = 64 << 20

func (a *app) tokenizeCommand() *cobra.Command {
	var (
		s        settings
		m        config.Model
		asJSON   bool
		special  bool
		textFile string
	)
	s.String(&m.Path, "model", "m", "", nil, "GGUF `FILE` with the vocabulary; without it the embedded ds4-tiny")
	cmd := a.command("tokenize [--json] [--text-file FILE | TEXT]", "print the token ids of a text", maxArgs(1), &s,
		func(_ *cobra.Command, args []string) error {
			text, err := a.operandText(args, textFile)
			if err != nil {
				return err
			}
			file, err := openModelFile(m.Path)
			if err != nil {
				return badInput(err)
			}
			defer file.Close()
			tok, err := tokenizer.FromGGUF(file)
			if err != nil {
				return badInput(fmt.Errorf("%s: %w", file.Name(), err))
			}
			encode := tok.Encode
			if special {
				encode = tok.EncodeWithControls
			}
			return writeTokens(a.Out, tok, encode(text), asJSON)
		})
	cmd.Long = `Prints the ids of a text, one a line with the bytes that each stands for. Without TEXT
and --text-file, and for -, it reads standard input.`
	cmd.Example = `  ds4 tokenize "some text"
  ds4 tokenize --json --text-file prompt.txt >tokens.json`
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON array of ids")
	cmd.Flags().BoolVar(&special, "special", true, "take the string of a control token for the token; =false takes it for text, as in a chat message")
	cmd.Flags().StringVar(&textFile, "text-file", "", "read the text from `FILE`; - is standard input")
	return cmd
}

// operandText is the text that a command works on: its operand, a file, or
// standard input.
func (a *app) operandText(args []string, file string) (string, error) {
	switch {
	case file != "" && len(args) > 0:
		return "", badUsage("give either TEXT or --text-file, not both")
	case file != "" && file != "-":
		f, err := os.Open(file)
		if err != nil {
			return "", badInput(err)
		}
		defer f.Close()
		return readText(f, file)
	case len(args) > 0 && args[0] != "-":
		return args[0], nil
	case file == "" && len(args) == 0 && isTerminal(a.In):
		return "", badUsage("no TEXT given")
	}
	return readText(a.In, "standard input")
}

// readText reads all of r, within the limit.
func readText(r io.Reader, name string) (string, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxTextBytes+1))
	if err != nil {
		return "", badInput(fmt.Errorf("read %s: %w", name, err))
	}
	if len(data) > maxTextBytes {
		return "", badInput(fmt.Errorf("read %s: more than %d bytes", name, maxTextBytes))
	}
	return string(data), nil
}

// writeTokens prints ids, as JSON or one a line with what each stands for.
func writeTokens(w io.Writer, tok *tokenizer.Tokenizer, ids []int32, asJSON bool) error {
	if asJSON {
		if ids == nil {
			ids = []int32{}
		}
		return json.NewEncoder(w).Encode(ids)
	}
	b := bufio.NewWriter(w)
	for _, id := range ids {
		kind := ""
		if tok.Control(id) {
			kind = " control"
		}
		fmt.Fprintf(b, "%d\t%q%s\n", id, tok.Bytes(id), kind)
	}
	return b.Flush()
}
