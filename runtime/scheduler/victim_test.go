package scheduler

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"ds4/runtime/chat"
)

func TestPickSlot(t *testing.T) {
	full := func(tokens, continued int, used uint64) *slot {
		sl := &slot{used: used, continued: continued}
		sl.past.tokens = make([]int32, tokens)
		return sl
	}
	busy, free := &slot{job: &job{}}, &slot{}
	older, newer := full(100, 0, 1), full(100, 0, 2)
	short, long := full(30, 0, 90), full(500, 0, 20)
	visited := full(100, 5, 40)
	ended := full(5000, 1000, 10)
	for _, c := range []struct {
		name string
		list []*slot
		now  uint64
		want *slot
	}{
		{"the one unused for longest", []*slot{busy, newer, older}, 10, older},
		{"what holds nothing", []*slot{busy, newer, older, free}, 10, free},
		{"nothing", []*slot{busy}, 10, nil},
		{"a short one, however new", []*slot{long, short}, 92, short},
		{"one that nobody came back to", []*slot{visited, full(100, 0, 80)}, 90, nil},
		{"a long one, when it is old enough", []*slot{full(100, 1, 900), ended}, 1000, ended},
	} {
		got := pickSlot(c.list, c.now)
		if c.name == "one that nobody came back to" {
			c.want = c.list[1]
		}
		if got != c.want {
			t.Errorf("%s was not taken", c.name)
		}
	}
}

// agent holds a conversation with a system prompt of its own.
type agent struct {
	r        *rig
	messages []chat.Message
	last     reply
}

func (r *rig) agent(system string) *agent {
	return &agent{r: r, messages: []chat.Message{{Role: chat.RoleSystem, Content: system}}}
}

// say adds a turn and its answer.
func (a *agent) say(text string, tokens int) *Result {
	a.r.t.Helper()
	a.messages = append(a.messages, chat.Message{Role: chat.RoleUser, Content: text})
	p, err := chat.Render(a.messages, chat.Options{Thinking: chat.None, ContextTokens: testContext})
	if err != nil {
		a.r.t.Fatal(err)
	}
	q := ask(chat.None, "x")
	q.Prompt, q.MaxTokens = p, tokens
	a.last = a.r.good(q)
	a.messages = append(a.messages, chat.Message{Role: chat.RoleAssistant, Content: a.last.text})
	return a.last.result
}

// TestMainConversationStays replays what a coding agent sends: a conversation that
// grows, a title for it, a check of each message with another system prompt, and
// subagents that talk a while and are gone. The conversation stays in memory all
// the time; what made room for others is on disk.
func TestMainConversationStays(t *testing.T) {
	w := newWorld(t)
	r := w.serve(rigOptions{config: func(c *Config) { c.Sessions = 3 }})
	main := r.agent("You are a coding agent. " + words(1, 120))
	var subagents []*agent
	held := 0
	for turn := range 6 {
		if turn == 1 {
			r.agent("Write a title.").say(words(50, 20), 4)
		}
		r.agent("Is this a new topic?").say(words(60+turn, 20), 4)
		if turn >= 2 {
			// While the main conversation waits for them.
			for range 3 {
				sub := r.agent("You are a subagent. " + words(2, 40))
				subagents = append(subagents, sub)
				for i := range 3 {
					sub.say(words(100+len(subagents)*7+i, 30), 6)
				}
			}
		}
		res := main.say(fmt.Sprint("Tool result: ", words(10+turn, 60)), 8)
		if turn > 0 && (res.Source == SourceCold || res.Source == SourceDisk || res.CachedTokens < held-1) {
			t.Errorf("turn %d: %s, %d of %d tokens cached, want %d", turn, res.Source, res.CachedTokens, res.PromptTokens, held)
		}
		held = res.PromptTokens
	}
	// The first subagent made room long ago. It was saved before.
	r.flush()
	if res := subagents[0].say("Go on.", 4); res.Source != SourceDisk || res.EvaluatedTokens > 60 {
		t.Errorf("the first subagent: %+v", res)
	}
	r.log.want("restore failed|store failed", 0)
	if n := len(r.log.find("kv cache stored .* reason=evict")); n == 0 {
		t.Error("nothing was saved when it made room")
	}
}

// TestPartingSavesTheEnd: a side request that repeats a conversation up to some
// turn and then says something else takes the session back to there. The end of
// the conversation is on disk then, and its next turn costs no prefill.
func TestPartingSavesTheEnd(t *testing.T) {
	w := newWorld(t)
	r := w.serve(rigOptions{config: func(c *Config) { c.Sessions = 1 }})
	main := r.agent("You are a coding agent.")
	main.say(words(1, 60), 8)
	side := &agent{r: r, messages: slices.Clone(main.messages)} // and then another second turn
	held := main.say("Tool result: "+words(2, 200), 8).PromptTokens
	if res := side.say("Summarize this.", 4); res.Source == SourceCold {
		t.Fatalf("the side request reused nothing: %+v", res)
	}
	r.flush()
	if res := main.say("And now?", 4); res.CachedTokens < held-1 {
		t.Errorf("%s, %d of %d tokens cached, want %d; log:\n%s", res.Source, res.CachedTokens, res.PromptTokens, held,
			strings.Join(r.log.find("kv cache|prompt start|miss"), "\n"))
	}
}

// TestLastSessionStays: side requests at once, as many as there are sessions, do
// not take the conversation that waits for them: the one too many waits for
// another to end, if that is soon enough. What continues the conversation passes
// those that wait.
func TestLastSessionStays(t *testing.T) {
	const patience = time.Hour
	for name, test := range map[string]struct {
		waited time.Duration // by the side request already
		side   *Request
		least  int // tokens of a conversation that is worth a file
		runs   int // requests, with the other one
	}{
		"soon":                  {-patience, endless(3, 4), 32, 1},
		"not soon":              {patience, endless(3, 4), 32, 2},
		"as long itself":        {-patience, ask(chat.None, words(4, 300)), 32, 2},
		"soon enough":           {maxRoomWait - 5*time.Second, endless(3, 4), 32, 1},
		"evaluated before that": {maxRoomWait - 5*time.Second, endless(3, 4), 1000, 2},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, rigOptions{byHand: true, config: func(c *Config) {
				c.Sessions, c.MinCacheTokens, c.RoomMin = 2, test.least, maxRoomWait
			}})
			idle := func() bool { return len(r.active) == 0 && r.queue.len() == 0 }
			again := func() *Result {
				done := r.start(t.Context(), ask(chat.None, words(1, 300)))
				r.turn()
				r.turnUntil(idle)
				return collect(done).result
			}
			again()
			r.start(t.Context(), endless(2, 20))
			r.turn()
			r.start(t.Context(), test.side)
			r.queue.items[0].submitted = time.Now().Add(-test.waited)
			r.turn()
			r.jobs(test.runs)
			if test.runs == 2 {
				r.turnUntil(idle)
				return
			}
			if res := again(); res.Source == SourceCold || res.EvaluatedTokens > 1 {
				t.Errorf("the conversation: %s, %d of %d tokens evaluated", res.Source, res.EvaluatedTokens, res.PromptTokens)
			}
			if !slices.ContainsFunc(r.log.find("finish="), func(line string) bool { return strings.Contains(line, "gen=4") }) {
				t.Error("the side request did not run")
			}
		})
	}
}
