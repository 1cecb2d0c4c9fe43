package cli

import (
	"errors"
	"strings"
)

// splitWords takes a command line apart as a POSIX shell would, as far as quotes
// and backslashes go. Nothing is expanded and nothing is run by a shell.
func splitWords(line string) ([]string, error) {
	var words []string
	var word strings.Builder
	in := false // a word has begun; it may be empty, as in ''
	var quote rune
	escaped := false
	for _, r := range line {
		switch {
		case escaped:
			if quote == '"' && !strings.ContainsRune("\"\\$`", r) {
				word.WriteByte('\\')
			}
			word.WriteRune(r)
			escaped = false
		case r == '\\' && quote != '\'':
			escaped, in = true, true
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(r)
		case r == '\'' || r == '"':
			quote, in = r, true
		case r == ' ' || r == '\t' || r == '\n':
			if in {
				words = append(words, word.String())
				word.Reset()
				in = false
			}
		default:
			word.WriteRune(r)
			in = true
		}
	}
	switch {
	case quote != 0:
		return nil, errors.New("a quote is not closed")
	case escaped:
		return nil, errors.New("a backslash at the end")
	case in:
		words = append(words, word.String())
	}
	return words, nil
}
