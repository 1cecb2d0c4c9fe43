package kvstore_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"ds4/faults/errfs"
	"ds4/runtime/kvstore"
	"ds4/runtime/kvstore/segment"
	"ds4/runtime/vfs"
)

// look describes the world's folder.
func (w *world) look(full bool) *kvstore.Survey {
	w.t.Helper()
	s, err := kvstore.LookAt(context.Background(), w.fs, dir, kvstore.SurveyOptions{Full: full, Now: w.clock()})
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// info returns what a survey says of a segment.
func info(t tester, s *kvstore.Survey, id string) *kvstore.SegmentInfo {
	t.Helper()
	key, err := segment.ParseID(id)
	if err != nil {
		t.Fatal(err)
	}
	i, ok := s.Find(key)
	if !ok {
		t.Fatalf("%s is not listed", id)
	}
	return &s.Segments[i]
}

// flip changes one byte of a segment's first raw row, which only a full check sees.
func (w *world) flip(id string) {
	w.t.Helper()
	row := section(w.t.(testing.TB), w.fs, file(id), segment.Raw, 0).Offset
	w.overwrite(file(id), func(b []byte) []byte { b[row] ^= 1; return b })
}

// TestLookAt: what a server did is seen from outside, beside it and after it.
func TestLookAt(t *testing.T) {
	w := newWorld(t, errfs.NewMem())
	a := newTalk(1, 96)
	ids := w.save(a)
	b := a[:64].then(newTalk(2, 40))
	branch := w.save(b)
	w.restore(a)
	guilty := w.save(newTalk(3, 32))
	w.s.Convict(guilty, "the device failed")
	put(t, w.fs, dir+"/notes.txt", []byte("mine"))
	put(t, w.fs, dir+"/tmp/x", []byte("12345"))
	w.s.Strike(ids[2:], "test")

	s := w.look(false)
	if !s.InUse || s.Holder.PID != os.Getpid() || s.Holder.Identity == "" || s.Holder.BudgetBytes != 64<<20 || s.Holder.Key != w.s.HoldingKey() {
		t.Errorf("holder %+v", s.Holder)
	}
	sum := s.Summary()
	if sum.Segments != 5 || sum.Conversations != 2 || sum.Files[kvstore.VerdictOK] != 5 || sum.Quarantined != 1 || s.Foreign != 4 || s.TempBytes != 5 {
		t.Errorf("%+v, foreign %d, temp %d", sum, s.Foreign, s.TempBytes)
	}
	if f := info(t, s, ids[2]); f.From != 64 || f.To != 96 || f.Parent.String() != ids[1] || f.Hits < 0.99 || f.Hits > 1 || f.Strikes != 1 || f.TextBytes != 64 ||
		*f.Identity != w.opt.Identity || f.LastUsed.Before(f.Created) {
		t.Errorf("%+v", f)
	}
	if len(s.Roots()) != 1 || len(s.Children(s.Roots()[0])) != 1 || len(s.Children(s.Children(s.Roots()[0])[0])) != 2 {
		t.Errorf("roots %v", s.Roots())
	}
	q := s.Quarantined[0]
	if q.ID != guilty[0] || q.Why != "convicted" || q.Error != "the device failed" || q.To != 32 || q.Strikes != 1 || q.Bytes == 0 {
		t.Errorf("%+v", q)
	}
	w.close()
	if s = w.look(true); s.InUse || *s.Identity != w.opt.Identity || s.Summary().Files[kvstore.VerdictOK] != 5 {
		t.Errorf("after the end: %+v", s.Holder)
	}
	_ = branch
}

// TestVerdicts: each thing that can be wrong with a file has its verdict, and the
// next start does what the verdict says.
func TestVerdicts(t *testing.T) {
	w := newWorld(t, errfs.NewMem())
	a, b, c := w.save(newTalk(1, 96)), w.save(newTalk(2, 64)), w.save(newTalk(3, 64))
	d, e := w.save(newTalk(4, 64)), w.save(newTalk(5, 32))
	w.s.Strike(e, "once")
	w.close()
	must(t, w.fs.Remove(file(a[1])))
	w.overwrite(file(b[0]), func(b []byte) []byte { b[40] ^= 1; return b }) // header
	w.overwrite(file(c[1]), func(b []byte) []byte { return b[:len(b)-9] })  // torn
	w.flip(d[1])                                                            // seen by a full check only
	must(t, w.fs.MkdirAll(file("00"+strings.Repeat("ab", 19))))             // a folder with a segment's name
	stale := *segmentOf(t, newTalk(6, 32))
	stale.Identity = [32]byte{9}
	staleID := putSegment(t, w.fs, &stale)

	for _, full := range []bool{false, true} {
		s := w.look(full)
		want := map[string]kvstore.Verdict{a[0]: "ok", a[2]: "orphan", b[0]: "damaged", b[1]: "orphan", c[0]: "ok", c[1]: "damaged",
			d[0]: "ok", d[1]: "ok", e[0]: "ok", staleID: "stale", "00" + strings.Repeat("ab", 19): "damaged"}
		if full {
			want[d[1]] = "damaged"
		}
		for id, v := range want {
			if f := info(t, s, id); f.Verdict != v || (v == "ok") != (f.Reason == "") {
				t.Errorf("full=%v: %s is %q (%s), want %q", full, id, f.Verdict, f.Reason, v)
			}
		}
		if len(s.Segments) != len(want) {
			t.Errorf("%d segments, want %d", len(s.Segments), len(want))
		}
	}
	w.overwrite(file(e[0]), func(b []byte) []byte { return b }) // the same file
	w.open()
	w.s.Strike(e, "twice")
	w.close()
	w.open()
	for id, v := range map[string]bool{a[0]: true, a[2]: true, b[0]: false, b[1]: true, c[0]: true, c[1]: false, d[0]: true, e[0]: false} {
		if w.s.Has(id) != v {
			t.Errorf("after the start Has(%s) is %v", id, !v)
		}
	}
}

// segmentOf returns a whole talk as one segment file.
func segmentOf(t tester, a talk) *segment.Segment {
	k := a.segment("", 0, len(a))
	return &segment.Segment{Identity: [32]byte{1}, To: len(a), CreatedNS: 1, Text: k.Text, Tokens: k.Tokens,
		Raw: k.Raw, Comp: k.Comp, Index: k.Index, Frontier: k.Frontier}
}

type segmentFile = segment.Segment

func mustEncode(t tester, k *segmentFile) *segment.Encoded {
	t.Helper()
	enc, err := segment.Encode(layout(), k)
	if err != nil {
		t.Fatal(err)
	}
	return enc
}

// TestConvictedVerdict: a convicted file that could not be moved is named.
func TestConvictedVerdict(t *testing.T) {
	w := newWorld(t, errfs.NewMem())
	ids := w.save(newTalk(1, 32))
	w.arm("kv.quarantine=eio", "kv.unlink=eio")
	w.s.Convict(ids, "x")
	if f := info(t, w.look(false), ids[0]); f.Verdict != kvstore.VerdictConvicted {
		t.Errorf("%+v", f)
	}
}

// TestNoCacheFolder: what is no cache folder is refused by every command, with a
// hint, and nothing is left in it.
func TestNoCacheFolder(t *testing.T) {
	w := newWorld(t, errfs.NewMem())
	id := w.save(newTalk(1, 32))[0]
	w.close()
	put(t, w.fs, "/other/notes.txt", []byte("mine"))
	must(t, w.fs.MkdirAll("/empty"))
	ctx := context.Background()
	for place, hint := range map[string]string{
		"/missing": "does not exist", "/other/notes.txt": "not a folder", "/other": "no folder \"segments\"", "/empty": "no lock file",
		dir + "/segments": "lies inside of one, " + dir, dir + "/segments/" + id[:2]: "lies inside of one, " + dir, dir + "/quarantine": "lies inside",
	} {
		_, err := kvstore.LookAt(ctx, w.fs, place, kvstore.SurveyOptions{})
		_, err2 := kvstore.Purge(ctx, w.fs, place, kvstore.Selection{All: true}, w.clock())
		_, err3 := kvstore.Readmit(w.fs, place, "x", w.clock())
		_, err4 := kvstore.FindID(ctx, w.fs, place, id)
		_, _, err5 := kvstore.WhoHas(w.fs, place)
		for i, err := range []error{err, err2, err3, err4, err5} {
			if !errors.Is(err, kvstore.ErrNoCache) || !strings.Contains(err.Error(), hint) {
				t.Errorf("%s, call %d: %v, want %q", place, i, err, hint)
			}
		}
		if w.exists(place + "/LOCK") {
			t.Errorf("%s has a lock file now", place)
		}
	}
}

// TestLookAtHostileFolder: loops of parents, links, pipes, huge names and folders where
// files should be cost a verdict and nothing else.
func TestLookAtHostileFolder(t *testing.T) {
	root := t.TempDir()
	opt := kvstore.Options{FS: vfs.OS, Dir: root, Identity: [32]byte{1}, Layout: layout(), MinTokens: 1, QuarantineBytes: 1 << 20}
	s, err := kvstore.Open(opt)
	must(t, err)
	must(t, s.Close(context.Background()))
	at := func(id string) string { return filepath.Join(root, "segments", id[:2], id+".kv") }
	ids := []string{strings.Repeat("aa", 20), strings.Repeat("ab", 20), strings.Repeat("ac", 20), strings.Repeat("ad", 20), strings.Repeat("ae", 20)}
	for _, id := range ids {
		must(t, os.MkdirAll(filepath.Dir(at(id)), 0o700))
	}
	// Two headers that name each other as parent: names lie, and only a full check sees it.
	for i, id := range ids[:2] {
		k := segmentOf(t, newTalk(7, 32))
		k.From, k.To = 32, 64
		k.Parent, err = segment.ParseID(ids[1-i])
		must(t, err)
		k.Raw, k.Comp, k.Index, k.Frontier = newTalk(7, 64).segment("", 32, 64).Raw, newTalk(7, 64).segment("", 32, 64).Comp, newTalk(7, 64).segment("", 32, 64).Index, newTalk(7, 64).segment("", 32, 64).Frontier
		enc, err := segment.Encode(layout(), k)
		must(t, err)
		must(t, os.WriteFile(at(id), slices.Concat(enc.Parts()...), 0o600))
	}
	must(t, os.Symlink("/etc/passwd", at(ids[2])))
	must(t, syscall.Mkfifo(at(ids[3]), 0o600))
	must(t, os.Mkdir(at(ids[4]), 0o700))
	must(t, os.Symlink(root, filepath.Join(root, "loop")))
	must(t, os.Symlink(root, filepath.Join(root, "segments", "af")))
	must(t, os.WriteFile(filepath.Join(root, "segments", "aa", strings.Repeat("n", 250)), []byte("x"), 0o600))
	must(t, os.WriteFile(filepath.Join(root, "quarantine", ids[0]+".17.\x1b[31mred.kv"), []byte("x"), 0o600))
	must(t, os.WriteFile(filepath.Join(root, "quarantine", ids[0]+".17.\x1b[31mred.json"), []byte(`{"error":"\u001b[2J"}`), 0o600))
	must(t, syscall.Mkfifo(filepath.Join(root, "quarantine", ids[1]+".17.pipe.kv"), 0o600))
	must(t, os.Remove(filepath.Join(root, "LOCK")))
	must(t, syscall.Mkfifo(filepath.Join(root, "LOCK"), 0o600))

	l, err := kvstore.LookAt(context.Background(), vfs.OS, root, kvstore.SurveyOptions{})
	must(t, err)
	if sum := l.Summary(); sum.Files["orphan"] != 2 || sum.Files["damaged"] != 3 || sum.Segments != 5 || sum.Conversations != 0 || sum.Quarantined != 2 {
		t.Errorf("%+v", sum)
	}
	reached := 0
	for open := slices.Clone(l.Roots()); len(open) > 0; reached++ {
		i := open[0]
		open = append(open[1:], l.Children(i)...)
		if reached > len(l.Segments) {
			t.Fatal("the tree has a loop")
		}
	}
	if reached != len(l.Segments) {
		t.Errorf("%d of %d segments are in the tree", reached, len(l.Segments))
	}
	for _, q := range l.Quarantined {
		if strings.ContainsRune(q.Name+q.Why+q.Error, 0x1b) {
			t.Errorf("a terminal would obey %q", fmt.Sprint(q))
		}
	}
	l, err = kvstore.LookAt(context.Background(), vfs.OS, root, kvstore.SurveyOptions{Full: true})
	must(t, err)
	if sum := l.Summary(); sum.Files["damaged"] != 5 {
		t.Errorf("full: %+v", sum)
	}
	for _, sel := range []kvstore.Selection{{All: true, DryRun: true}, {OlderThan: time.Nanosecond}, {All: true}} {
		if _, err := kvstore.Purge(context.Background(), vfs.OS, root, sel, time.Now()); sel.DryRun && err != nil {
			t.Errorf("%+v: %v", sel, err)
		}
	}
	if _, err := os.Stat("/etc/passwd"); err != nil {
		t.Error(err)
	}
}

// TestLookBesideVanishing: a file that goes while the folder is looked at is no
// problem.
func TestLookBesideVanishing(t *testing.T) {
	m := errfs.NewMem()
	w := newWorld(t, m)
	ids := w.save(newTalk(1, 96))
	gone := &vanishing{FS: m, name: file(ids[2])}
	s, err := kvstore.LookAt(context.Background(), gone, dir, kvstore.SurveyOptions{Full: true})
	must(t, err)
	if !gone.removed || len(s.Segments) != 2 || s.Summary().Files["ok"] != 2 {
		t.Errorf("%+v", s.Summary())
	}
	if n := w.restore(newTalk(1, 96)); n != 64 {
		t.Errorf("the store restored %d tokens", n)
	}
}

// vanishing removes a file when it is opened.
type vanishing struct {
	vfs.FS
	name    string
	removed bool
}

func (v *vanishing) Open(name string) (vfs.File, error) {
	if name == v.name {
		v.removed = v.FS.Remove(name) == nil
	}
	return v.FS.Open(name)
}

// TestFindID: a beginning of an id is enough, in segments and quarantine.
func TestFindID(t *testing.T) {
	w := newWorld(t, errfs.NewMem())
	a, b := w.save(newTalk(1, 32))[0], w.save(newTalk(2, 32))[0]
	w.s.Convict([]string{b}, "x")
	find := func(text string) string {
		list, err := kvstore.FindID(context.Background(), w.fs, dir, text)
		if err != nil {
			return "error: " + err.Error()
		}
		var names []string
		for _, f := range list {
			names = append(names, fmt.Sprintf("%s/%v", f.Name, f.Quarantined))
		}
		return strings.Join(names, " ")
	}
	jailed := strings.TrimSuffix(w.quarantined()[0], ".kv")
	for text, want := range map[string]string{a: a + "/false", a[:4]: a + "/false", b[:8]: jailed + "/true", jailed: jailed + "/true"} {
		if got := find(text); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
	put(t, w.fs, file(a[:20]+b[20:]), nil)
	if got := find(a[:6]); strings.Count(got, " ") != 1 {
		t.Errorf("ambiguous: %s", got)
	}
	for _, bad := range []string{"", "abc", "../../etc", a + "00", strings.ToUpper(a), "ffffffffffff", a[:10] + "*"} {
		if got := find(bad); !strings.HasPrefix(got, "error: kvstore: not found") {
			t.Errorf("%q: %s", bad, got)
		}
	}
}

// TestDegradedIsRepeated: whoever looks at the log an hour later still learns that
// the cache is off, or only read, and why.
func TestDegradedIsRepeated(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(m *errfs.Mem)
		want    string
	}{
		"a file":  {func(m *errfs.Mem) { put(t, m, dir, []byte("x")) }, "kv cache degraded: off: "},
		"in use":  {func(m *errfs.Mem) { must(t, m.MkdirAll(dir)); _, err := m.Lock(dir + "/LOCK"); must(t, err) }, "kv cache degraded: read-only: in use by another process"},
		"in good": {func(*errfs.Mem) {}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := errfs.NewMem()
				c.prepare(m)
				w := newWorld(t, m)
				time.Sleep(3*time.Minute + time.Second)
				want := 3
				if c.want == "" {
					want = 0
				}
				if n := w.logged("kv cache degraded"); n != want || w.logged(c.want) < want {
					t.Errorf("%d lines in three minutes, want %d\n%s", n, want, w.dumpLog())
				}
				w.close()
			})
		})
	}
}

// TestFilesVanishUnderStore: somebody removes files of a running store by hand. It
// finds them missing, goes on with what comes before, and its sums come right.
func TestFilesVanishUnderStore(t *testing.T) {
	a := newTalk(1, 128)
	w := newWorld(t, errfs.NewMem())
	ids := w.save(a)
	before := w.s.Stats()
	one := size(t, w.fs, file(ids[1]))
	must(t, w.fs.Remove(file(ids[1])))
	if n := w.restore(a); n != 32 {
		t.Fatalf("restored %d", n)
	}
	st := w.s.Stats()
	if st.Missing != 1 || st.Corrupt != 0 || st.Segments != 3 || st.SegmentBytes != before.SegmentBytes-one || len(w.quarantined()) != 0 {
		t.Errorf("%+v", st)
	}
	w.save(a) // writes the missing one only
	if n := w.restore(a); n != 128 || w.s.Stats().Stored != st.Stored+1 {
		t.Errorf("restored %d, stored %d", n, w.s.Stats().Stored-st.Stored)
	}
	for _, id := range ids {
		must(t, w.fs.Remove(file(id)))
	}
	zero := int64(0)
	if rep := w.purge(true, kvstore.Selection{KeepBytes: &zero}); rep.Failed != 0 || w.s.Stats().SegmentBytes != 0 || w.s.Stats().ForeignBytes != 0 {
		t.Errorf("%+v, %+v", rep, w.s.Stats())
	}
}
