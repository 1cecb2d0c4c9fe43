package scenarios

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"ds4/faults"
	"ds4/faults/corrupt"
	"ds4/scenarios/corpus"
)

// Limits of what a scenario may ask for.
const (
	maxRepeat       = 1000
	maxPasses       = 10_000 // of all sweeps and repeats together, nested ones multiplied
	maxSteps        = 1000
	maxDepth        = 6
	maxRetries      = 100
	MaxPromptTokens = 1_000_000
	maxOutputTokens = 100_000
	maxTextBytes    = 256 << 10
)

var (
	idPattern  = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)
	rowPattern = regexp.MustCompile(`^[A-G][1-9][0-9]?$`)
)

// Check verifies everything that the types cannot say: names, references, rules,
// offsets, variables and limits. Sweeps are checked with each of their values.
func (s *Scenario) Check() error {
	if !idPattern.MatchString(s.ID) || len(s.ID) > 80 {
		return fmt.Errorf("%w: id %q: want lower case words joined by hyphens", ErrInvalid, s.ID)
	}
	if s.Title == "" {
		return fmt.Errorf("%w: no title", ErrInvalid)
	}
	if !slices.Contains(Lanes(), s.Lane) {
		return fmt.Errorf("%w: lane %q (known: %v)", ErrInvalid, s.Lane, Lanes())
	}
	for _, row := range s.Catalogue {
		if !rowPattern.MatchString(row) {
			return fmt.Errorf("%w: catalogue %q: want a row such as A6", ErrInvalid, row)
		}
	}
	if s.Repeat < 0 || s.Repeat > maxRepeat {
		return fmt.Errorf("%w: repeat %d: want 0 to %d", ErrInvalid, s.Repeat, maxRepeat)
	}
	if err := checkWords(s.Measure, Measures(), "measure"); err != nil {
		return err
	}
	if (s.Lane == LaneMemory) != (s.Memory != nil) {
		return fmt.Errorf("%w: memory: is given in lane memory, and only there", ErrInvalid)
	}
	if m := s.Memory; m != nil && (m.Segments < 1 || m.Segments > 1000 || m.Crashes < 1 || m.Crashes > 1_000_000) {
		return fmt.Errorf("%w: memory: want 1 to 1000 segments and 1 to 1000000 crashes", ErrInvalid)
	}
	if len(s.Steps) == 0 && s.Memory == nil {
		return fmt.Errorf("%w: no steps", ErrInvalid)
	}
	if len(s.Expect) == 0 {
		return fmt.Errorf("%w: no expect: a scenario that asks for nothing proves nothing", ErrInvalid)
	}
	if err := s.checkDisk(); err != nil {
		return err
	}
	c := checker{lane: s.Lane, disk: s.Server.Disk, chats: map[string]bool{}, keeps: map[string]bool{}, marks: map[string]bool{}, named: map[string]string{}}
	if err := s.checkServer(); err != nil {
		return fmt.Errorf("server: %w", err)
	}
	if err := c.steps(s.Steps, nil, 0, "steps"); err != nil {
		return err
	}
	return c.expects(s.Expect, "expect")
}

// BuiltinVariables are the names that every string of a scenario may use.
func BuiltinVariables() []string { return []string{"KV", "WORK", "SEED"} }

type checker struct {
	lane         Lane
	disk         Bytes
	chats, keeps map[string]bool
	marks        map[string]bool
	named        map[string]string // by the name of a chat: the step that it is from
	passes, seen int
	timed        int // repeats that have a time
}

func (c *checker) steps(steps []Step, vars map[string]string, depth int, where string) error {
	if depth > maxDepth {
		return fmt.Errorf("%w: %s: steps nested more than %d deep", ErrInvalid, where, maxDepth)
	}
	for i := range steps {
		at := fmt.Sprintf("%s[%d]", where, i)
		if c.seen++; c.seen > maxSteps*maxDepth*10 {
			return fmt.Errorf("%w: %s: too many steps in all", ErrInvalid, at)
		}
		st := &steps[i]
		if len(st.Kinds()) != 1 {
			return fmt.Errorf("%w: %s: want exactly one kind of step, got %v", ErrInvalid, at, st.Kinds())
		}
		at += "." + st.Kinds()[0]
		if st.Sweep != nil {
			if err := c.sweep(st.Sweep, vars, depth, at); err != nil {
				return err
			}
			continue
		}
		// Inner steps keep their variables until their own sweep is expanded.
		one := []Step{*st}
		if st.Repeat == nil && st.Parallel == nil {
			var err error
			if one, err = Expand(one, lookupIn(vars)); err != nil {
				return fmt.Errorf("%s: %w", at, err)
			}
		}
		if err := c.step(&one[0], vars, depth, at); err != nil {
			return err
		}
	}
	return nil
}

// lookupIn knows the variables of the sweeps around a step, the built-in names,
// and upper-case names, which come from the environment when the scenario runs.
func lookupIn(vars map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		if v, ok := vars[name]; ok {
			return v, true
		}
		if slices.Contains(BuiltinVariables(), name) {
			return "/" + name, true
		}
		return name, name != "" && name == strings.ToUpper(name)
	}
}

func (c *checker) sweep(s *Sweep, vars map[string]string, depth int, at string) error {
	values := s.Over
	switch {
	case s.Var == "" || strings.Trim(s.Var, "abcdefghijklmnopqrstuvwxyz_") != "":
		return fmt.Errorf("%w: %s: var %q: want lower case letters", ErrInvalid, at, s.Var)
	case (len(s.Over) > 0) == (s.Until != ""):
		return fmt.Errorf("%w: %s: want either over or until", ErrInvalid, at)
	case s.Until != "" && (s.Until != "unfired" || s.Limit < 1):
		return fmt.Errorf("%w: %s: want until: unfired, with a limit", ErrInvalid, at)
	case s.Until != "":
		values = []string{"1"}
		c.passes += s.Limit * max(len(s.Op), 1)
	case len(s.Steps) == 0:
		return fmt.Errorf("%w: %s: no steps", ErrInvalid, at)
	}
	ops, err := c.sweptOps(s, at)
	if err != nil {
		return err
	}
	for _, op := range ops {
		if err := c.sweepValues(s, values, s.withOp(vars, op), depth, at); err != nil {
			return err
		}
	}
	return nil
}

// sweepValues checks the steps with each value of the variable.
func (c *checker) sweepValues(s *Sweep, values []string, vars map[string]string, depth int, at string) error {
	for _, v := range values {
		if c.passes++; c.passes > maxPasses {
			return fmt.Errorf("%w: %s: more than %d passes in all", ErrInvalid, at, maxPasses)
		}
		inner := map[string]string{s.Var: v}
		for k, val := range vars {
			if k != s.Var {
				inner[k] = val
			}
		}
		if err := c.steps(s.Steps, inner, depth+1, at); err != nil {
			return fmt.Errorf("%w (with %s=%s)", err, s.Var, v)
		}
	}
	return nil
}

func (c *checker) step(st *Step, vars map[string]string, depth int, at string) error {
	fail := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s: "+format, append([]any{ErrInvalid, at}, args...)...)
	}
	switch {
	case st.Start != nil:
		if st.Start.Supervised < 0 || st.Start.Supervised > maxRetries {
			return fail("supervised %d: want 0 to %d", st.Start.Supervised, maxRetries)
		}
		if err := checkArgs(st.Start.Args); err != nil {
			return fail("%w", err)
		}
		if err := c.callRules(st.Start.Syscalls, fail); err != nil {
			return err
		}
		return checkRules(st.Start.Faults, at)
	case st.Wait != nil:
		return c.wait(st.Wait, fail)
	case st.Chat != nil:
		if err := c.name(st.Chat.As, at); err != nil {
			return err
		}
		return c.chat(st.Chat, fail)
	case st.Parallel != nil:
		return c.steps(st.Parallel, vars, depth+1, at)
	case st.Turns != nil:
		if err := c.name(st.Turns.As, at); err != nil {
			return err
		}
		return c.turns(st.Turns, fail)
	case st.Signal != nil:
		if !slices.Contains([]string{"KILL", "TERM", "INT"}, st.Signal.Kill) {
			return fail("signal %q (known: KILL, TERM, INT)", st.Signal.Kill)
		}
	case st.Corrupt != nil:
		return checkCorrupt(st.Corrupt, fail)
	case st.Plant != nil:
		return checkPlant(st.Plant, fail)
	case st.SwapModel != nil:
		if k := st.SwapModel.Kind; k != "" {
			return checkWords([]string{k}, ModelKinds(), "kind of model")
		}
	case st.Fill != nil:
		if st.Fill.As == "" || st.Fill.Prompt == nil {
			return fail("want as and prompt")
		}
		c.chats[st.Fill.As] = true
		return checkPrompt(st.Fill.Prompt, fail)
	case st.Keep != nil:
		if !idPattern.MatchString(st.Keep.Name) {
			return fail("name %q", st.Keep.Name)
		}
		c.keeps[st.Keep.Name] = true
	case st.PutBack != nil:
		if !c.keeps[st.PutBack.Name] {
			return fail("nothing was kept as %q", st.PutBack.Name)
		}
	case st.Fault != nil:
		return checkRules(st.Fault.Rules, at)
	case st.FillDisk != nil, st.FreeDisk != nil, st.Limit != nil, st.Access != nil, st.RemoveDir != nil:
		return c.hostStep(st, fail)
	case st.Mark != nil:
		if st.Mark.As == "" || st.Mark.Pass < 0 || st.Mark.Pass > maxRepeat {
			return fail("want as, and a pass of 1 to %d or none", maxRepeat)
		}
		c.marks[st.Mark.As] = true
	case st.PowerCut != nil, st.Memory != nil:
		return c.rootStep(st, fail)
	case st.Repeat != nil:
		if st.Repeat.Times < 1 || st.Repeat.Times > maxRepeat {
			return fail("times %d: want 1 to %d", st.Repeat.Times, maxRepeat)
		}
		if c.passes += st.Repeat.Times; c.passes > maxPasses {
			return fail("more than %d passes in all", maxPasses)
		}
		if st.Repeat.For > 0 {
			if c.timed++; c.timed > 1 || depth > 0 {
				return fail("for: one repeat of a scenario may have it, and none within others")
			}
		}
		return c.steps(st.Repeat.Steps, vars, depth+1, at)
	case st.Expect != nil:
		return c.expects(st.Expect, at)
	}
	return nil
}

// name notes which step a chat is from. Two steps of a list with one name are a slip: of
// their answers an assertion would see the last one only.
func (c *checker) name(as, at string) error {
	list := func(at string) string { return at[:strings.LastIndexByte(at, '[')] }
	if before, taken := c.named[as]; as != "" && taken && before != at && list(before) == list(at) {
		return fmt.Errorf("%w: %s: as: %q is the name of %s, too", ErrInvalid, at, as, before)
	}
	c.named[as] = at
	return nil
}

func (c *checker) wait(w *Wait, fail func(string, ...any) error) error {
	n := 0
	for _, set := range []bool{w.Log != "", w.Exit, w.Ready, w.Chats, w.Segments > 0} {
		if set {
			n++
		}
	}
	if n != 1 {
		return fail("want exactly one of log, exit, ready, chats, segments")
	}
	if _, err := regexp.Compile(w.Log); err != nil {
		return fail("%w", err)
	}
	return nil
}

func (c *checker) chat(ch *Chat, fail func(string, ...any) error) error {
	switch {
	case (ch.Prompt == nil) == (ch.Same == ""):
		return fail("want either prompt or same")
	case ch.Same != "" && !c.chats[ch.Same]:
		return fail("same: no earlier chat is named %q", ch.Same)
	case ch.Retries < 0 || ch.Retries > maxRetries:
		return fail("retries %d: want 0 to %d", ch.Retries, maxRetries)
	case ch.MaxTokens < 0 || ch.MaxTokens > maxOutputTokens:
		return fail("max_tokens %d: want 0 to %d", ch.MaxTokens, maxOutputTokens)
	case ch.Abandon != nil && ch.Abandon.Events == 0 && ch.Abandon.After == 0 && ch.Abandon.Log == "":
		return fail("abandon: want events, after or log")
	case len(ch.System) > maxTextBytes:
		return fail("system: over %d bytes", maxTextBytes)
	}
	if ch.Abandon != nil {
		if _, err := regexp.Compile(ch.Abandon.Log); err != nil {
			return fail("abandon: %w", err)
		}
	}
	if ch.Via != nil {
		rule, err := ch.Via.Rule()
		if err != nil {
			return fail("via: %w", err)
		}
		if rule.Events() && !ch.Stream {
			return fail("via: events are those of a stream: want stream: true")
		}
	}
	if ch.As != "" {
		c.chats[ch.As] = true
	}
	if ch.Prompt != nil {
		return checkPrompt(ch.Prompt, fail)
	}
	return nil
}

func (c *checker) turns(t *Turns, fail func(string, ...any) error) error {
	switch {
	case t.As == "" || len(t.Users) == 0 || t.Retries < 0 || t.Retries > maxRetries:
		return fail("want as, users, and retries of 0 to %d", maxRetries)
	case t.After != "" && !c.chats[t.After]:
		return fail("after: no earlier chat is named %q", t.After)
	case t.Tools != "" && (len(t.Tools) > maxTextBytes || !json.Valid([]byte(t.Tools))):
		return fail("tools: want JSON text of at most %d bytes", maxTextBytes)
	case t.Result != "" && t.Tools == "", len(t.Result) > maxTextBytes:
		return fail("result: want tools, and at most %d bytes", maxTextBytes)
	}
	for i := range t.Users {
		if err := checkPrompt(&t.Users[i], fail); err != nil {
			return err
		}
		c.chats[fmt.Sprintf("%s-%d", t.As, i+1)] = true
		c.chats[fmt.Sprintf("%s-%d-result", t.As, i+1)] = t.Tools != ""
	}
	c.chats[t.As] = true
	return nil
}

func checkPrompt(p *Prompt, fail func(string, ...any) error) error {
	if (p.Text == "") == (p.Corpus == "") {
		return fail("prompt: want either text or corpus")
	}
	if p.Corpus != "" {
		if err := checkWords([]string{p.Corpus}, corpus.Names(), "corpus"); err != nil {
			return fail("prompt: %w", err)
		}
		if p.Tokens < 1 || p.Tokens > MaxPromptTokens {
			return fail("prompt: tokens %d: want 1 to %d", p.Tokens, MaxPromptTokens)
		}
	}
	if len(p.Text) > maxTextBytes {
		return fail("prompt: text over %d bytes", maxTextBytes)
	}
	depth := 0
	for more := p.Then; more != nil; more = more.Then {
		if depth++; depth > maxDepth {
			return fail("prompt: more than %d texts", maxDepth)
		}
	}
	if p.Then != nil {
		return checkPrompt(p.Then, fail)
	}
	return nil
}

// checkPlant checks that planted files lie below the cache directory.
func checkPlant(k *Plant, fail func(string, ...any) error) error {
	switch {
	case !filepath.IsLocal(k.Name):
		return fail("name %q: want a path below the cache directory", k.Name)
	case k.Count < 0 || k.Count > maxRepeat:
		return fail("count %d: want 0 to %d", k.Count, maxRepeat)
	case k.Count > 1 && !strings.Contains(k.Name, "#"):
		return fail("name %q: %d copies need a # in it", k.Name, k.Count)
	}
	if k.Kind != "" {
		if err := checkWords([]string{k.Kind}, corrupt.PlantKinds(), "kind of file"); err != nil {
			return fail("%w", err)
		}
	}
	if k.From != "" {
		if err := corrupt.CheckPick(k.From); err != nil {
			return fail("%w", err)
		}
	}
	if _, err := k.Size(); err != nil {
		return fail("%w", err)
	}
	return nil
}

func checkCorrupt(k *Corrupt, fail func(string, ...any) error) error {
	if !slices.Contains(faults.FileOps(), k.Op) {
		return fail("op %q (known: %v)", k.Op, faults.FileOps())
	}
	if err := corrupt.CheckPick(k.File); err != nil {
		return fail("%w", err)
	}
	if err := corrupt.CheckOffset(k.At); err != nil {
		return fail("%w", err)
	}
	if forges := k.Op == faults.OpShorten || k.Op == faults.OpInflate; forges && !corrupt.IsSection(k.At) {
		return fail("at %q: %s wants a section of the table", k.At, k.Op)
	}
	if _, err := k.Count(); err != nil {
		return fail("%w", err)
	}
	if (k.Op == faults.OpSubstitute) != (k.Match != "") {
		return fail("match: is given with substitute, and only there")
	}
	if _, err := regexp.Compile(k.Match); err != nil {
		return fail("match: %w", err)
	}
	return nil
}

func checkRules(rules []string, at string) error {
	for _, r := range rules {
		if _, err := faults.ParseRule(r); err != nil {
			return fmt.Errorf("%w: %s: fault %q: %w", ErrInvalid, at, r, err)
		}
	}
	return nil
}

var flagPattern = regexp.MustCompile(`^[a-z][a-z0-9-]*$`)

// reservedFlags are set by the runner, which could not do its work otherwise.
var reservedFlags = []string{"host", "port", "fault", "model", "m", "trace"}

func checkArgs(args map[string]any) error {
	for k, v := range args {
		if !flagPattern.MatchString(k) || slices.Contains(reservedFlags, k) {
			return fmt.Errorf("%w: args: %q is not a flag that a scenario may set", ErrInvalid, k)
		}
		switch v.(type) {
		case string, bool, int, int64, uint64, float64:
		default:
			return fmt.Errorf("%w: args: %s: want a single value", ErrInvalid, k)
		}
	}
	return nil
}

func checkWords(words, known []string, what string) error {
	for _, w := range words {
		if !slices.Contains(known, w) {
			hint := ""
			if s := suggest(w, known); s != "" {
				hint = fmt.Sprintf("; did you mean %q?", s)
			}
			return fmt.Errorf("%w: %s %q (known: %s%s)", ErrInvalid, what, w, strings.Join(known, ", "), hint)
		}
	}
	return nil
}

// FileName is the name of the file that holds the scenario.
func (s *Scenario) FileName() string { return filepath.Clean(s.ID + ".yaml") }
