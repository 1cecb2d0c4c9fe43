package cli

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"syscall"

	"ds4/faults/explore"
	"ds4/scenarios/corpus"
)

// Bounds of what a recorded run is made of.
const (
	maxRequests = 64 // of one run: each of its directories is asked all of them
	maxRuns     = 1000
	// bytesPerToken is about what a token of source code has.
	bytesPerToken = 3
)

// exploredStep is one step of the run that is recorded: a question, or an end of the
// server and a new start.
type exploredStep struct {
	ask int            // number of the question
	end syscall.Signal // if not 0, this signal instead
}

// exploredScript is what the recorded server is asked, and how it ends in between.
type exploredScript struct {
	questions []string
	steps     []exploredStep
}

// newScript draws a run from a seed: so many requests of about so many tokens, of
// which some begin alike and some repeat, with ends in good order and kills between
// them. A run of one request has a fixed question, so that runs can be compared.
func newScript(seed uint64, requests, tokens int) (exploredScript, error) {
	const fixedSeed = 11
	if requests == 1 {
		text, err := corpus.Text("go-source", fixedSeed, tokens*bytesPerToken)
		return exploredScript{questions: []string{text}, steps: []exploredStep{{ask: 0}}}, err
	}
	var s exploredScript
	rng := rand.New(rand.NewPCG(seed, 1))
	for i := range requests {
		if i > 0 && rng.IntN(3) == 0 {
			s.steps = append(s.steps, exploredStep{end: []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL}[rng.IntN(2)]})
		}
		n := len(s.questions)
		if n > 0 && rng.IntN(4) == 0 { // the same again
			s.steps = append(s.steps, exploredStep{ask: rng.IntN(n)})
			continue
		}
		bytes := max(tokens*bytesPerToken*(25+rng.IntN(176))/100, bytesPerToken)
		text, err := corpus.Text("go-source", rng.Uint64(), bytes)
		if err != nil {
			return s, err
		}
		if n > 0 && rng.IntN(2) == 0 { // as an earlier one begins, or all of it
			earlier := s.questions[rng.IntN(n)]
			text = strings.ToValidUTF8(earlier[:len(earlier)*(1+rng.IntN(4))/4], "") + text
		}
		s.questions = append(s.questions, text)
		s.steps = append(s.steps, exploredStep{ask: n})
	}
	return s, nil
}

// String describes the run in one line.
func (s exploredScript) String() string {
	var words []string
	for _, st := range s.steps {
		switch st.end {
		case 0:
			words = append(words, fmt.Sprint("ask ", st.ask+1))
		case syscall.SIGKILL:
			words = append(words, "kill")
		default:
			words = append(words, "restart")
		}
	}
	return strings.Join(words, ", ")
}

// compareControls asks each question of a server that has an empty directory, and
// says which answer of the recorded run was another.
func (e *exploredServer) compareControls(ctx context.Context, dir string) error {
	for i := range e.script.questions {
		p, _, err := e.start(ctx, nil, fmt.Sprintf("%s-%d", dir, i))
		if err != nil {
			return fmt.Errorf("a server without a cache: %w", err)
		}
		answer, _, err := e.ask(ctx, p.URL(), i)
		p.Close()
		switch {
		case err != nil:
			return fmt.Errorf("a server without a cache: %w", err)
		case answer != e.cold[i]:
			return &wrongRun{fmt.Errorf("question %d of the recorded run: wrong answer %q, without a cache it is %q", i+1, e.cold[i], answer)}
		}
	}
	return nil
}

// wrongRun is a failure of the server in the recorded run itself.
type wrongRun struct{ error }

// judgeAnswers asks all questions and compares the answers; reused is what the
// server says of each.
func (e *exploredServer) judgeAnswers(ctx context.Context, url string) (reused []int64, err error) {
	for i := range e.script.questions {
		answer, n, err := e.ask(ctx, url, i)
		switch {
		case err != nil:
			return nil, fmt.Errorf("no answer%s: %w", e.which(i), err)
		case answer != e.cold[i]:
			return nil, fmt.Errorf("wrong answer%s: %q, without a cache it is %q", e.which(i), answer, e.cold[i])
		}
		reused = append(reused, n)
	}
	return reused, nil
}

// which names a question, if there are several.
func (e *exploredServer) which(i int) string {
	if len(e.script.questions) == 1 {
		return ""
	}
	return fmt.Sprintf(" to question %d", i+1)
}

// judgeReuse says whether less is reused than must be. The directory from which
// nothing was lost, which is judged first, says what is due.
func (e *exploredServer) judgeReuse(reused []int64, s *explore.State) error {
	if s.Last && len(s.Lost) == 0 {
		e.due = reused
		return nil
	}
	if e.noReuse {
		return nil
	}
	for i, n := range reused {
		switch due := e.due[i]; {
		case s.Last && n < due:
			return fmt.Errorf("%d tokens are reused%s; the server had ended in good order with %d in the cache", n, e.which(i), due)
		case n < min(e.owed(s), due):
			return fmt.Errorf("%d tokens are reused%s; the server had said that %d are stored", n, e.which(i), e.owed(s))
		}
	}
	return nil
}
