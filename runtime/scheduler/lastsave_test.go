package scheduler

import (
	"os"
	"path/filepath"
	"testing"

	"ds4/runtime/chat"
)

const longQuestion = "hello there, this is a question that is long enough to be saved at the end of all things"

// TestFolderGoneAtShutdown: the cache folder is removed under a conversation. It
// is saved at shutdown all the same, as a whole, and the next server restores it.
func TestFolderGoneAtShutdown(t *testing.T) {
	w := newWorld(t)
	r := w.serve(rigOptions{})
	first := r.good(longChat())
	if err := os.RemoveAll(w.dir); err != nil {
		t.Fatal(err)
	}
	r.down()
	r.log.want(`kv cache folder .* was removed or replaced`, 1)
	r.log.want(`not saved at shutdown`, 0)
	r = w.serve(rigOptions{})
	list := r.store.List()
	if len(list) != 1 || list[0].From != 0 || list[0].To < first.result.PromptTokens {
		t.Errorf("got %+v", list)
	}
}

// TestFolderGoneBehindAnAnswer: as before, but the conversation ends with an answer that
// the next prompt may or may not repeat. Both are saved, its prompt and its end.
func TestFolderGoneBehindAnAnswer(t *testing.T) {
	w := newWorld(t)
	r := w.serve(rigOptions{})
	q := ask(chat.High, longQuestion+", "+longQuestion)
	q.Prompt.KeepsReasoning = true
	res := r.good(q).result
	if err := os.RemoveAll(w.dir); err != nil {
		t.Fatal(err)
	}
	r.down()
	r.log.want(`kv cache folder .* was removed or replaced`, 1)
	r.log.want(`not saved at shutdown`, 0)
	r = w.serve(rigOptions{})
	list := r.store.List()
	if len(list) != 2 || list[0].From != 0 || list[0].To > res.PromptTokens || list[1].From != list[0].To || list[1].To <= res.PromptTokens {
		t.Errorf("%d tokens of prompt, got %+v", res.PromptTokens, list)
	}
}

// TestLostSessionsAreNamed: what cannot be saved at shutdown costs one line that
// says which sessions and why.
func TestLostSessionsAreNamed(t *testing.T) {
	w := newWorld(t)
	r := w.serve(rigOptions{})
	r.good(ask(chat.None, longQuestion))
	r.good(ask(chat.None, "another conversation of the same kind, that has nothing in common with the first one at all, or hardly"))
	if err := os.RemoveAll(w.dir); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(w.dir, nil, 0o600); err != nil { // no folder can be made there
		t.Fatal(err)
	}
	r.down()
	r.log.want(`kv cache not saved at shutdown: 2 of 2 sessions \(tokens=\d+: .*not a directory.*; tokens=\d+: .*not a directory.*\)`, 1)
}

// TestReadOnlyAtShutdown: a server that shares the folder of another one saves
// nothing, and says so.
func TestReadOnlyAtShutdown(t *testing.T) {
	w := newWorld(t)
	first := w.serve(rigOptions{})
	second := w.serve(rigOptions{})
	second.good(ask(chat.None, longQuestion))
	second.down()
	second.log.want(`kv cache not saved at shutdown: 1 of 1 sessions \(tokens=\d+: kv cache: read-only: in use by pid \d+ `, 1)
	first.down()
	first.log.want(`not saved at shutdown`, 0)
}

// TestShutdownTriesAfterFailure: a write failed a moment ago, so nothing would be
// tried for a while. The shutdown tries.
func TestShutdownTriesAfterFailure(t *testing.T) {
	w := newWorld(t)
	r := w.serve(rigOptions{})
	arm(t, r, "kv.write.header=enospc:times=20")
	r.good(ask(chat.None, longQuestion))
	r.flush()
	disarm()
	r.down()
	r.log.want(`not saved at shutdown`, 0)
	files, err := filepath.Glob(filepath.Join(w.dir, "segments", "*", "*.kv"))
	if err != nil || len(files) == 0 {
		t.Errorf("segments %v, %v", files, err)
	}
}
