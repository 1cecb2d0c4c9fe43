package kvstore_test

import (
	"context"
	"strings"
	"testing"

	"ds4/faults/errfs"
	"ds4/runtime/kvstore"
	"ds4/runtime/kvstore/replay"
)

// TestCallsFile: the file of tool calls counts for the budget, now and after a restart,
// is nobody's garbage, and goes when everything does.
func TestCallsFile(t *testing.T) {
	w := newWorld(t, errfs.NewMem())
	w.save(newTalk(1, 3*segTokens))
	open := func() *replay.Memory {
		return replay.Open(replay.Options{FS: w.fs, Name: w.s.CallsFile(), Writable: w.s.Owned, Resized: w.s.CountCalls, Log: w.logf})
	}
	end := func(m *replay.Memory) {
		if err := m.Close(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	before := w.s.Stats().UsedBytes
	m := open()
	block := []byte(strings.Repeat("x", 3000))
	m.Remember([]string{"call_1"}, block)
	end(m)
	size := w.s.Stats().UsedBytes - before
	if size < int64(len(block)) || size > int64(len(block))+100 {
		t.Errorf("the file counts %d bytes", size)
	}
	named := func(when string, want int64) {
		if st := w.s.Stats(); st.CallBytes != want || st.ForeignBytes != 0 {
			t.Errorf("%s: %d bytes are called tool calls, %d foreign; want %d and none", when, st.CallBytes, st.ForeignBytes, want)
		}
	}
	named("after a call", size)
	w.reopen()
	if used := w.s.Stats().UsedBytes; used != before+size {
		t.Errorf("%d bytes used after a restart, %d before", used, before+size)
	}
	named("after a restart", size)
	if got := w.look(false); got.Foreign != 0 || got.OtherBytes < size {
		t.Errorf("a survey finds %d foreign bytes and %d others", got.Foreign, got.OtherBytes)
	}
	m = open()
	if got, ok := m.Lookup("call_1"); !ok || string(got) != string(block) {
		t.Errorf("call_1 is not there after a restart")
	}
	m.Clear()
	end(m)
	if used := w.s.Stats().UsedBytes; used != before {
		t.Errorf("%d bytes used after Clear, %d without the file", used, before)
	}
	named("after Clear", 0)
	w.close()
	w.purge(false, kvstore.Selection{All: true})
	if w.exists(dir + "/toolcalls") {
		t.Error("purging all leaves the file")
	}
}

// TestCallsOfTheWriterBefore: who takes the place of a writer knows its tool calls, keeps
// its own, and counts the file once.
func TestCallsOfTheWriterBefore(t *testing.T) {
	m := errfs.NewMem()
	open := func(w *world) *replay.Memory {
		calls := replay.Open(replay.Options{FS: w.fs, Name: w.s.CallsFile(), Writable: w.s.Owned,
			Holding: w.s.HoldingKey, Resized: w.s.CountCalls, Log: w.logf})
		w.s.OnRegained(calls.Join)
		return calls
	}
	end := func(m *replay.Memory) {
		if err := m.Close(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	first := newWorld(t, m)
	second := newWorld(t, m, soon)
	a, b := open(first), open(second)
	block := []byte(strings.Repeat("x", 3000))
	a.Remember([]string{"call_a"}, block)
	b.Remember([]string{"call_b"}, block) // has no file yet
	end(a)
	first.close()
	second.await("the folder", second.healthy)
	second.await("the calls", func() bool { _, ok := b.Lookup("call_a"); return ok })
	b.Remember([]string{"call_c"}, block)
	end(b)
	second.close()
	third := newWorld(t, m)
	c := open(third)
	for _, id := range []string{"call_a", "call_b", "call_c"} {
		if _, ok := c.Lookup(id); !ok {
			t.Errorf("%s is forgotten", id)
		}
	}
	end(c)
	if counted, is := third.s.Stats().UsedBytes, second.s.Stats().UsedBytes; counted != is {
		t.Errorf("%d bytes used, after a restart %d", is, counted)
	}
}
