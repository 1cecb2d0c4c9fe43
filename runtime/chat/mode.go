package chat

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
)

// Mode says how much the model thinks before it answers.
type Mode int

const (
	None Mode = iota // the answer starts at once
	High             // reasoning first
	Max              // reasoning first, asked to be exhaustive
)

// MaxContextTokens is the context from which Max is honoured; below it, Max
// renders as High, since exhaustive reasoning would not fit.
const MaxContextTokens = 393216

var modeNames = [...]string{None: "none", High: "high", Max: "max"}

func (m Mode) String() string {
	if m < 0 || int(m) >= len(modeNames) {
		return fmt.Sprintf("Mode(%d)", int(m))
	}
	return modeNames[m]
}

// ModeWords are the words that ParseMode knows, for messages.
const ModeWords = "none, minimal, low, medium, high, xhigh or max"

// ParseMode reads a thinking mode or one of the effort names that API clients
// send: minimal, low, medium and xhigh mean high.
func ParseMode(s string) (Mode, error) {
	switch s {
	case "none", "off":
		return None, nil
	case "minimal", "low", "medium", "high", "xhigh":
		return High, nil
	case "max":
		return Max, nil
	}
	return None, fmt.Errorf("chat: thinking mode: want %s, got %.32q: %w", ModeWords, s, ErrMode)
}

// The text that asks for maximal effort is part of the model, not of this
// program: it is taken from the chat template in the model file and known by its
// length and SHA-256.
const (
	maxPrefixStart  = "Reasoning Effort:"
	maxPrefixBytes  = 476
	maxPrefixSHA256 = "f7a24f3b3050d4a83781e9b755b316aae2ec1d9dc87562541d90bcb04d7350f7"
)

// maxTemplateBytes bounds the search; published templates have some 10 KiB.
const maxTemplateBytes = 1 << 20

// FindMaxPrefix looks in a chat template (tokenizer.chat_template of a model file)
// for the text that the model was trained to take as the request for maximal
// effort. ok is false if the template does not hold exactly that text; then Max
// renders as High.
func FindMaxPrefix(template string) (prefix string, ok bool) {
	return findPrefix(template, maxPrefixStart, maxPrefixBytes, maxPrefixSHA256)
}

func findPrefix(template, start string, size int, sumHex string) (string, bool) {
	if len(template) > maxTemplateBytes {
		return "", false
	}
	for {
		i := strings.Index(template, start)
		if i < 0 {
			return "", false
		}
		// Templates write line breaks as they are or as escapes of a string literal.
		for _, text := range [...]string{
			template[i:],
			strings.ReplaceAll(template[i:min(len(template), i+2*size)], `\n`, "\n"),
		} {
			if len(text) < size {
				continue
			}
			if sum := sha256.Sum256([]byte(text[:size])); hex.EncodeToString(sum[:]) == sumHex {
				return strings.Clone(text[:size]), true
			}
		}
		template = template[i+len(start):]
	}
}
