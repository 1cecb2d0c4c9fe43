package scenarios

import (
	"maps"
	"slices"
	"strings"

	"ds4/faults"
	"ds4/faults/corrupt"
)

// Subject is a kind of server under test.
type Subject int

// The kinds.
const (
	SubjectDS4     Subject = iota // a ds4 that the harness starts
	SubjectForeign                // another server that the harness starts
	SubjectTarget                 // a server that runs already, whatever it is
)

// Unavailable lists what the scenario needs and such a server does not offer, in
// words, in order, each once. It is empty if the scenario can be run.
func (s *Scenario) Unavailable(on Subject) []string {
	if on == SubjectDS4 {
		return nil
	}
	v := needs{on: on, builtin: s.Builtin, seen: map[string][]string{}}
	if s.Lane == LaneMemory {
		v.add("a store that runs without its server", "memory")
	}
	if on == SubjectForeign {
		v.flags(s.Server.Args, "server.args")
	}
	v.steps(s.Steps)
	v.expects(s.Expect)
	var list []string
	for _, what := range slices.Sorted(maps.Keys(v.seen)) {
		slices.Sort(v.seen[what])
		list = append(list, what+" ("+strings.Join(slices.Compact(v.seen[what]), ", ")+")")
	}
	return list
}

// sizing are flags of ds4 that change nothing that a scenario asserts about
// another server.
var sizing = []string{"kv-disk-dir", "ctx", "threads", "sessions", "kv-segment-tokens", "kv-cache-min-tokens"}

// needs collects what is missing.
type needs struct {
	on      Subject
	builtin bool                // names of files, log lines and pages are those of ds4
	seen    map[string][]string // what, and where in the file
}

func (v *needs) add(what, where string) { v.seen[what] = append(v.seen[what], where) }

func (v *needs) flags(args map[string]any, where string) {
	for name := range args {
		if !slices.Contains(sizing, name) {
			v.add("flags of ds4", where+"."+name)
		}
	}
}

func (v *needs) steps(list []Step) {
	for i := range list {
		st := &list[i]
		if v.on == SubjectTarget {
			v.targetStep(st)
		} else {
			v.foreignStep(st)
		}
		v.expects(st.Expect)
		v.steps(st.Parallel)
		if st.Sweep != nil {
			v.sweep(st.Sweep)
		}
		if st.Repeat != nil {
			v.steps(st.Repeat.Steps)
		}
	}
}

// sweep looks at the steps with each value of the variable: where a file is
// damaged is often one.
func (v *needs) sweep(s *Sweep) {
	values := s.Over
	if len(values) == 0 {
		values = []string{"1"}
	}
	for _, value := range values {
		steps, err := Expand(s.Steps, func(name string) (string, bool) {
			if name == s.Var {
				return value, true
			}
			return "${" + name + "}", true
		})
		if err == nil { // Check has seen every value
			v.steps(steps)
		}
	}
}

// targetStep: nobody can start, stop or look into a server of somebody else.
func (v *needs) targetStep(st *Step) {
	kind := st.Kinds()[0]
	switch {
	case st.Start != nil && len(st.Start.Faults)+len(st.Start.Syscalls)+len(st.Start.Args) > 0, st.Start != nil && st.Start.NoCache:
		v.add("a process of its own", "start with faults or flags")
	case st.Wait != nil && !st.Wait.Chats, st.Signal != nil, st.Stop != nil, st.SwapModel != nil, st.Fault != nil:
		v.add("a process of its own", kind)
	case st.Corrupt != nil, st.Plant != nil, st.Fill != nil, st.Keep != nil, st.PutBack != nil, st.RemoveDir != nil,
		st.FillDisk != nil, st.FreeDisk != nil, st.Limit != nil, st.Access != nil, st.PowerCut != nil, st.Memory != nil:
		v.add("the files of the server", kind)
	case st.Chat != nil && st.Chat.Abandon != nil && st.Chat.Abandon.Log != "":
		v.add("the log of the server", "chat.abandon.log")
	}
}

func (v *needs) foreignStep(st *Step) {
	switch {
	case st.Start != nil:
		if len(st.Start.Faults) > 0 {
			v.add("fault points", "start.faults")
		}
		if st.Start.NoCache {
			v.add("a start without a cache", "start.no_cache")
		}
		v.flags(st.Start.Args, "start.args")
	case st.Fault != nil:
		v.add("fault points", "fault")
	case st.Mark != nil && v.builtin:
		v.add("log and pages of ds4", "mark")
	case st.SwapModel != nil:
		v.add("models that are made for ds4", "swap-model")
	case st.Wait != nil && st.Wait.Segments > 0:
		v.add("segment files", "wait.segments")
	case st.Wait != nil && st.Wait.Log != "" && v.builtin:
		v.add("log lines of ds4", "wait.log")
	case st.Chat != nil:
		if st.Chat.Thinking {
			v.add("reasoning on demand", "chat.thinking")
		}
		if st.Chat.Abandon != nil && st.Chat.Abandon.Log != "" && v.builtin {
			v.add("log lines of ds4", "chat.abandon.log")
		}
	case st.Turns != nil && st.Turns.Thinking:
		v.add("reasoning on demand", "turns.thinking")
	case st.Corrupt != nil:
		v.damage(st.Corrupt)
	case st.Plant != nil && v.builtin:
		v.add("file names of ds4", "plant")
	}
}

// damage: files are damaged by pattern, age, size, offset and percent, whoever
// wrote them.
func (v *needs) damage(k *Corrupt) {
	section, _, _ := strings.Cut(k.At, "+")
	switch {
	case corrupt.IsSection(section), k.Op == faults.OpShorten, k.Op == faults.OpInflate:
		v.add("sections of ds4's segment format", "corrupt.at "+k.At)
	case strings.HasPrefix(k.File, "glob ") && v.builtin:
		v.add("file names of ds4", "corrupt.file "+k.File)
	}
}

func (v *needs) expects(list []Expect) {
	for i := range list {
		e := &list[i]
		kind := e.Kinds()[0]
		switch {
		case e.Fired != nil && (v.on == SubjectTarget || !isCallRule(e.Fired.Fault)):
			v.add("fault points", "expect."+kind)
		case e.Quarantined != nil, e.Segments != nil, e.Temps != nil, e.Markers != nil:
			v.add("the folders of ds4's cache", "expect."+kind)
		case v.on == SubjectTarget && (e.Unchanged != "" || e.DiskBytes != nil):
			v.add("the files of the server", "expect."+kind)
		case v.on == SubjectTarget && (e.Log != nil || e.Deaths != nil || e.Exit != nil):
			v.add("a process of its own", "expect."+kind)
		case v.on == SubjectTarget: // may well be a ds4
		case v.builtin && (e.Log != nil || e.Metric != nil || e.Page != nil || e.Growth != nil || e.Health != ""):
			v.add("log and pages of ds4", "expect."+kind)
		case v.builtin && e.Error != nil && e.Error.Code != "":
			v.add("error codes of ds4", "expect."+kind)
		case e.Restored != nil && !byTime(e.Restored), e.Cached != nil && !byTime(e.Cached), e.Reused != nil && !byTime(e.Reused),
			e.Evaluated != nil && (e.Evaluated.AtMost == nil || e.Evaluated.AtLeast != nil || e.Evaluated.Exactly != nil || e.Evaluated.Chat == ""):
			v.add("counters of the backend", "expect."+kind)
		}
	}
}

// byTime says that a condition on reuse can be judged by how long a chat took:
// that there was some.
func byTime(b *ChatBounds) bool {
	return b.Chat != "" && b.AtLeast != nil && *b.AtLeast > 0 && b.AtMost == nil && b.Exactly == nil
}

// JudgesReuse says whether a scenario asks how much of a prompt was reused.
func (s *Scenario) JudgesReuse() bool {
	asks := func(list []Expect) bool {
		return slices.ContainsFunc(list, func(e Expect) bool {
			return e.Restored != nil || e.Cached != nil || e.Reused != nil || e.Evaluated != nil
		})
	}
	var visit func([]Step) bool
	visit = func(list []Step) bool {
		return slices.ContainsFunc(list, func(st Step) bool {
			return asks(st.Expect) || visit(st.Parallel) || st.Sweep != nil && visit(st.Sweep.Steps) || st.Repeat != nil && visit(st.Repeat.Steps)
		})
	}
	return asks(s.Expect) || visit(s.Steps)
}
