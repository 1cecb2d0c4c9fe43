package server

import (
	"strings"

	"ds4/runtime/scheduler"
)

// choiceLogprobs are the probabilities of a chat completion's visible tokens.
type choiceLogprobs struct {
	Content []tokenLogprob `json:"content"`
}

type tokenLogprob struct {
	Token   string       `json:"token"`
	Logprob float64      `json:"logprob"`
	Bytes   []int        `json:"bytes"` // a token need not be whole characters
	Top     []topLogprob `json:"top_logprobs"`
}

type topLogprob struct {
	Token   string  `json:"token"`
	Logprob float64 `json:"logprob"`
	Bytes   []int   `json:"bytes"`
}

// logprobs is the object of a choice or chunk; nil if none were asked for.
func (a *answer) logprobsOf(list []scheduler.TokenLogprob) *choiceLogprobs {
	if !a.logprobs {
		return nil
	}
	out := &choiceLogprobs{Content: []tokenLogprob{}}
	for _, l := range list {
		t := tokenLogprob{Token: tokenText(l.Bytes), Logprob: l.Logprob, Bytes: byteValues(l.Bytes), Top: []topLogprob{}}
		for _, p := range l.Top {
			t.Top = append(t.Top, topLogprob{tokenText(p.Bytes), p.Logprob, byteValues(p.Bytes)})
		}
		out.Content = append(out.Content, t)
	}
	return out
}

func tokenText(b []byte) string { return strings.ToValidUTF8(string(b), "\uFFFD") }

func byteValues(b []byte) []int {
	list := make([]int, len(b))
	for i, c := range b {
		list[i] = int(c)
	}
	return list
}
