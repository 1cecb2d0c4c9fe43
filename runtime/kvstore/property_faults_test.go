package kvstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"pgregory.net/rapid"

	"ds4/faults/errfs"
	"ds4/runtime/kvstore"
	"ds4/runtime/vfs"
)

// injected are the operations whose n-th call depends on nothing but the steps.
// Reads run side by side: they fail by name.
var injected = []errfs.Op{errfs.OpCreate, errfs.OpAppend, errfs.OpWrite, errfs.OpSync, errfs.OpClose, errfs.OpRename, errfs.OpRemove,
	errfs.OpSyncDir, errfs.OpMkdir, errfs.OpReadDir, errfs.OpLstat, errfs.OpOpen, errfs.OpRead}

// inject makes the disk fail, once or from now on, and perhaps restarts on it.
func (m *model) inject(t *rapid.T) {
	op := rapid.SampledFrom(injected).Draw(t, "op")
	action := rapid.SampledFrom([]string{"eio", "enospc", "eacces", "short(0)", "part=50%:enospc", "part=7:eio"}).Draw(t, "action")
	text := string(op)
	switch op {
	case errfs.OpOpen, errfs.OpRead:
		text += ":path=" + m.id(anyPiece(t)) + ".kv:every"
	case errfs.OpSync, errfs.OpSyncDir:
		if rapid.IntRange(0, 3).Draw(t, "lie") == 0 {
			action, m.loose = "lie", true
		}
		fallthrough
	default:
		text += fmt.Sprintf(":nth=%d", rapid.IntRange(1, 8).Draw(t, "nth"))
		if rapid.Bool().Draw(t, "sticky") {
			text += ":every"
		}
	}
	m.faulty = true
	m.lose()
	m.fs.SetRules(errfs.MustParse(text + ":" + action))
	if rapid.IntRange(0, 3).Draw(t, "restart on it") > 0 {
		return
	}
	_ = m.s.Close(context.Background())
	m.listen()
	m.open()
	m.listen()
	m.blind = !m.working() || m.s.Stats().Recovery.Unreadable > 0
	m.unsized = m.blind || op == errfs.OpLstat || op == errfs.OpReadDir
}

// mend ends all faults. A store that was opened in good health works then; one
// that was not says why, and works when it is opened again.
func (m *model) mend() {
	m.fs.SetRules()
	m.mem.SetCapacity(0)
	m.advance(kvBackoff)
	if !m.faulty || !m.working() {
		return
	}
	p := universe()[0]
	for _, q := range universe() {
		if q.parent == nil && m.guilty[q.at] == 0 && q.to() >= m.opt.MinTokens && !m.s.Has(m.id(q)) {
			p = q
		}
	}
	had := m.s.Has(m.id(p))
	err := m.save(p)
	if err == nil {
		err = m.s.Flush(context.Background())
	}
	m.listen()
	ok, why := m.s.Health()
	switch {
	case m.tight || m.opt.MinTokens > p.to() || m.vague && errors.Is(err, kvstore.ErrRefused) || m.guilty[p.at]+m.judged[p.at] > 0:
	case err != nil || !m.s.Has(m.id(p)) || !ok && !had:
		m.t.Fatalf("after the fault a save of %s: %v, stored %v, health %q\n%s", m.id(p), err, m.s.Has(m.id(p)), why, m.dumpLog())
	}
}

func (m *model) fillDisk(t *rapid.T) {
	m.faulty = true
	m.lose()
	m.mem.SetCapacity(max(m.mem.Used()+int64(rapid.IntRange(-500, 3000).Draw(t, "room")), 1))
}

func (m *model) jump(t *rapid.T) {
	d := time.Duration(rapid.SampledFrom([]int{-400_000, -3601, -1, 1, 61, 86_399, 90_000_000}).Draw(t, "seconds"))*time.Second + 12_347
	m.advance(d)
}

// damage flips a bit of a published file, or cuts it, behind the store's back.
func (m *model) damage(t *rapid.T) {
	p := anyPiece(t)
	at := rapid.IntRange(0, 1<<20).Draw(t, "at")
	cut := rapid.Bool().Draw(t, "cut")
	name := file(m.id(p))
	b, err := vfs.ReadFile(m.mem, name, 1<<20)
	if err != nil || len(b) == 0 {
		return
	}
	m.mem.SetCapacity(0)
	b = bytes.Clone(b)
	if b[at%len(b)] ^= 1 << (at % 8); cut {
		b = b[:at%len(b)]
	}
	put(m.t, m.mem, name, b)
	must2(m.t, m.mem.SyncDir(path.Dir(name)))
	m.damaged[p.at], m.hurt[p.at] = true, true
	m.forget(p)
}

func must2(t tester, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// swap puts one good file in the place of another.
func (m *model) swap(t *rapid.T) {
	p, q := anyPiece(t), anyPiece(t)
	b, err := vfs.ReadFile(m.mem, file(m.id(q)), 1<<20)
	if _, there := m.mem.Lstat(file(m.id(p))); err != nil || there != nil || p == q {
		return
	}
	m.mem.SetCapacity(0)
	put(m.t, m.mem, file(m.id(p)), bytes.Clone(b))
	must2(m.t, m.mem.SyncDir(path.Dir(file(m.id(p)))))
	m.damaged[p.at], m.hurt[p.at], m.swapped = true, true, true
	m.forget(p)
}

// remove deletes a published file behind the store's back.
func (m *model) remove(t *rapid.T) {
	p := anyPiece(t)
	if m.mem.Remove(file(m.id(p))) == nil {
		_ = m.mem.SyncDir(path.Dir(file(m.id(p))))
		m.damaged[p.at], m.hurt[p.at] = true, true
		m.forget(p)
	}
}

// otherOptions restarts with another budget, identity, minimum, context,
// validation, quarantine or sync mode.
func (m *model) otherOptions(t *rapid.T) {
	m.restart(t, func(o *kvstore.Options) {
		switch rapid.IntRange(0, 6).Draw(t, "option") {
		case 0:
			o.BudgetBytes = 64 << 20
			if m.tight = rapid.Bool().Draw(t, "tight"); m.tight {
				room(rapid.IntRange(2, 12).Draw(t, "segments"))(o)
			}
		case 1:
			m.who = 1 - m.who
			o.Identity = identities[m.who]
			for _, p := range universe() { // of the other identity nothing is known, and nothing stays
				m.forget(p)
				m.damaged[p.at] = m.damaged[p.at] || m.loose
			}
			m.lose()
		case 2:
			o.MinTokens = rapid.SampledFrom([]int{1, 20, 40}).Draw(t, "min")
		case 3:
			o.ContextTokens = rapid.SampledFrom([]int{0, 64, 65, 97}).Draw(t, "context")
		case 4:
			o.Validate = rapid.SampledFrom([]kvstore.Validate{kvstore.ValidateOff, kvstore.ValidateHeader, kvstore.ValidateFull}).Draw(t, "validate")
		case 5:
			o.QuarantineBytes = rapid.SampledFrom([]int64{0, 4 << 10, 1 << 20}).Draw(t, "quarantine")
		case 6:
			o.Sync = rapid.SampledFrom([]kvstore.Sync{kvstore.SyncData, kvstore.SyncNone}).Draw(t, "sync")
			if m.calm {
				o.Sync = kvstore.SyncData
			}
			m.loose = m.loose || o.Sync == kvstore.SyncNone
		}
	})
}

// foreignFiles restarts on a folder in which somebody else has left things.
func (m *model) foreignFiles(t *rapid.T) {
	if err := m.s.Close(context.Background()); err != nil {
		t.Fatalf("close: %v", err)
	}
	m.fs.SetRules()
	m.mem.SetCapacity(0)
	p := anyPiece(t)
	name := rapid.SampledFrom([]string{"notes", "segments/notes", "segments/zz/" + m.id(p) + ".kv", "segments/00/x.kv", "tmp/x", "tmp/d/x",
		"inflight/7", "inflight/8.1", "quarantine/x", "quarantine/" + m.id(p) + ".9.old.kv", "quarantine/" + m.id(p) + ".9.old.json",
		"journal.tmp.4.4", "sub/dir/x", "journal"}).Draw(t, "name")
	data := rapid.SliceOfN(rapid.Byte(), 0, 99).Draw(t, "data")
	put(m.t, m.mem, path.Join(dir, name), data)
	if name == "journal" {
		m.lose()
	}
	m.started(t)
}

// secondProcess opens the same folder a second time, reads, and changes nothing.
func (m *model) secondProcess(t *rapid.T) {
	p := anyPiece(t)
	if ok, _ := m.s.Health(); !ok || m.faulty {
		return
	}
	before := m.snapshot()
	fsys := errfs.Wrap(m.mem)
	opt := m.opt
	opt.LockGrace = time.Nanosecond // nobody is about to give the folder back
	opt.FS, opt.Log = fsys, func(format string, args ...any) { m.logf("reader: "+format, args...) }
	second, err := kvstore.Open(opt)
	if err != nil {
		t.Fatal(err)
	}
	c := second.Lookup(p.talk.text())
	if !c.Empty() {
		var last *session
		_, err := second.Restore(context.Background(), c, func(to int) (kvstore.Target, error) {
			last = newSession(to)
			return last, nil
		})
		if err == nil {
			err = last.wrong(p.talk)
		}
		if err != nil && !m.loose && !slices.Contains(m.damaged, true) {
			t.Fatalf("the reader: %v\n%s", err, m.dumpLog())
		}
	}
	if _, err := second.Save(context.Background(), p.seg); !errors.Is(err, kvstore.ErrReadOnly) && !errors.Is(err, kvstore.ErrInput) {
		t.Fatalf("the reader saves: %v", err)
	}
	second.Strike(c.IDs, "test")
	if err := second.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	if after := m.snapshot(); after != before {
		t.Fatalf("the reader changed the folder:\n%s\n%s", before, after)
	}
}

// snapshot prints the names and sizes of everything under the folder.
func (m *model) snapshot() string {
	var b strings.Builder
	var walk func(string)
	walk = func(at string) {
		_ = m.mem.ReadDir(at, func(e vfs.Entry) error {
			name := path.Join(at, e.Name)
			fi, err := m.mem.Lstat(name)
			if err == nil {
				fmt.Fprintf(&b, "%s %d\n", name, fi.Size())
			}
			if e.Type.IsDir() {
				walk(name)
			}
			return nil
		})
	}
	walk(dir)
	return b.String()
}
