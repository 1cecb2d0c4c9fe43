package kvstore_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"runtime/metrics"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"ds4/runtime/kvstore"
	"ds4/runtime/kvstore/journal"
	"ds4/runtime/kvstore/segment"
	"ds4/runtime/vfs"
)

const (
	hostileNames  = 25_000   // in each case, 200,000 together; DS4_HOSTILE_NAMES asks for more
	hostileMemory = 64 << 20 // that recovery may use for all of it
	hostileTime   = 2 * time.Minute
)

// weighed is the real file system that now and then weighs the heap.
//
// What is measured is live memory: each time a full collection is forced and what
// survived it is read (/gc/heap/live:bytes), so that neither GOGC nor the moment of
// the last collection has a say. With GOGC at its default the heap may be twice as
// large between two collections; that half is garbage and not what recovery needs.
type weighed struct {
	vfs.FS
	mu    sync.Mutex
	calls int
	peak  uint64
	names int
}

const weighEvery = 20_000 // calls

func liveHeap() uint64 {
	runtime.GC()
	s := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}

func (w *weighed) weigh(calls int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.calls += calls; w.calls >= weighEvery {
		w.calls = 0
		w.peak = max(w.peak, liveHeap())
	}
}

func (w *weighed) Lstat(name string) (fs.FileInfo, error) {
	w.weigh(1)
	return w.FS.Lstat(name)
}

func (w *weighed) Remove(name string) error {
	w.weigh(1)
	return w.FS.Remove(name)
}

func (w *weighed) ReadDir(name string, visit func(vfs.Entry) error) error {
	err := w.FS.ReadDir(name, func(e vfs.Entry) error {
		w.mu.Lock()
		w.names++
		w.mu.Unlock()
		return visit(e)
	})
	w.weigh(weighEvery) // whatever a listing has collected is there now
	return err
}

// TestRecoveryMemory opens a folder with hundreds of thousands of names that
// should not be there, and weighs what recovery needs for them.
func TestRecoveryMemory(t *testing.T) {
	n := hostileNames
	if text := os.Getenv("DS4_HOSTILE_NAMES"); text != "" {
		var err error
		n, err = strconv.Atoi(text)
		must(t, err)
	}
	if testing.Short() {
		n /= 25
	}
	for name, fill := range map[string]func(t *testing.T, root string, n int){
		"foreign":          fillForeign,
		"quarantine":       fillQuarantine,
		"empty segments":   fillEmptySegments,
		"linked segments":  fillLinkedSegments,
		"markers":          fillMarkers,
		"notes of nothing": fillNotes,
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			w := newWorld(t, vfs.OS, func(o *kvstore.Options) { o.Dir = root })
			a := newTalk(1, 64)
			w.save(a)
			w.close()
			fill(t, root, n)
			before := liveHeap()
			disk := &weighed{FS: vfs.OS}
			start := time.Now()
			w = newWorld(t, disk, func(o *kvstore.Options) {
				o.Dir, o.RecoverTimeout, o.QuarantineBytes = root, hostileTime, 512<<20
				o.BudgetBytes = 4 << 30
			})
			took := time.Since(start)
			after := liveHeap()
			peak := max(disk.peak, after)
			t.Logf("%d names seen, %v; live heap grew by %.1f MiB at most, by %.1f MiB in the end; %d log lines",
				disk.names, took.Round(time.Millisecond), float64(peak-min(before, peak))/(1<<20), float64(after-min(before, after))/(1<<20), len(w.log))
			if disk.names < n {
				t.Errorf("only %d names of %d were looked at", disk.names, n)
			}
			if peak > before+hostileMemory {
				t.Errorf("recovery needs %d MiB, the limit is %d MiB", (peak-before)>>20, hostileMemory>>20)
			}
			if ok, why := w.s.Health(); !ok {
				t.Errorf("health: %s", why)
			}
			if got := w.restore(a); got != 64 {
				t.Errorf("the good segments: restored %d", got)
			}
			if len(w.log) > 3000 {
				t.Errorf("%d lines in the log", len(w.log))
			}
			w.close()
		})
	}
}

// many makes n empty files with the names that name gives.
func many(t *testing.T, n int, name func(i int) string) {
	t.Helper()
	made := map[string]bool{}
	for i := range n {
		p := name(i)
		if d := filepath.Dir(p); !made[d] {
			must(t, os.MkdirAll(d, 0o700))
			made[d] = true
		}
		f, err := os.Create(p)
		must(t, err)
		must(t, f.Close())
	}
}

func fillForeign(t *testing.T, root string, n int) {
	long := strings.Repeat("x", 240)
	for i, sub := range []string{".", "segments", "segments/00", "segments/zz", "quarantine", "tmp", "inflight", "a/b/c/d"} {
		many(t, n/4, func(k int) string { return filepath.Join(root, sub, fmt.Sprintf("%s%d-%d", long, i, k)) })
	}
}

func fillQuarantine(t *testing.T, root string, n int) {
	many(t, n, func(i int) string {
		return filepath.Join(root, "quarantine", fmt.Sprintf("%040x.%d.torn%s", i/2+1, i, []string{".kv", ".json"}[i%2]))
	})
	many(t, n, func(i int) string {
		return filepath.Join(root, "quarantine", fmt.Sprintf("%s.%d.why.kv", strings.Repeat("y", 200), i))
	})
}

func fillNotes(t *testing.T, root string, n int) {
	many(t, n, func(i int) string {
		return filepath.Join(root, "quarantine", fmt.Sprintf("%040x.%d.torn.json", i+1, i))
	})
}

func fillEmptySegments(t *testing.T, root string, n int) {
	many(t, n, func(i int) string {
		id := fmt.Sprintf("%02x%038x", i%256, i+1)
		return filepath.Join(root, "segments", id[:2], id+".kv")
	})
}

// fillLinkedSegments gives one good file many names: every header is fine.
func fillLinkedSegments(t *testing.T, root string, n int) {
	var good string
	must(t, filepath.WalkDir(filepath.Join(root, "segments"), func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			good = p
		}
		return err
	}))
	for i := range n {
		id := fmt.Sprintf("%02x%038x", i%256, i+1)
		p := filepath.Join(root, "segments", id[:2], id+".kv")
		must(t, os.MkdirAll(filepath.Dir(p), 0o700))
		if err := os.Link(good, p); err != nil { // a file has so many names at most
			data, err := os.ReadFile(good)
			must(t, err)
			must(t, os.WriteFile(p, data, 0o600))
			good = p
		}
	}
}

// fillMarkers makes markers of megabytes, and many of them.
func fillMarkers(t *testing.T, root string, n int) {
	many(t, n, func(i int) string { return filepath.Join(root, "inflight", fmt.Sprint(i)) })
	ids := strings.TrimSuffix(strings.Repeat(`"`+strings.Repeat("ab", 20)+`",`, 20_000), ",")
	for i := range 60 {
		text := fmt.Sprintf(`{"chain":[%s],"phase":"%d"}`, ids, i)
		switch i % 3 {
		case 1:
			text = strings.Repeat("[", 1<<20-1)
		case 2:
			text = strings.Repeat("x", 3<<20)
		}
		must(t, os.WriteFile(filepath.Join(root, "inflight", fmt.Sprintf("0%d", i)), []byte(text), 0o600))
	}
}

// TestHostileThings puts everything that a folder can hold where a store looks:
// links into nowhere, out and in circles, FIFOs, sockets, devices, folders under
// the names of files, files under the names of folders, names of 255 bytes, a
// nesting of 60 folders, garbage as journal. A start ends and the store works.
func TestHostileThings(t *testing.T) {
	for _, sub := range []string{".", "segments", "segments/00", "tmp", "inflight", "quarantine"} {
		for _, thing := range hostileThings() {
			t.Run(sub+"/"+thing.name, func(t *testing.T) {
				root := t.TempDir()
				for _, base := range hostileBases(sub) {
					p := filepath.Join(root, sub, base)
					must(t, os.MkdirAll(filepath.Dir(p), 0o700))
					if err := thing.make(p); err != nil {
						t.Skipf("SKIPPED, this host does not allow it: %v", err)
					}
				}
				hostileStart(t, root, thing.name == closedFolder)
			})
		}
	}
}

// hostileBases are the names under which the store would act on a thing.
func hostileBases(sub string) []string {
	id := strings.Repeat("0", 39) + "1"
	switch sub {
	case ".":
		return []string{"journal", "notes", "journal.tmp.1.1", strings.Repeat("n", 255)}
	case "segments":
		return []string{"11", "zz", id + ".kv"}
	case "segments/00":
		return []string{id + ".kv", id + ".kv.tmp.1.1", strings.Repeat("0", 255), "x"}
	case "quarantine":
		return []string{id + ".12.torn.kv", id + ".12.torn.json", id + ".13.x.json", id + ".kv", "q.tmp.1.1"}
	}
	return []string{id + ".1.1", "7.1", "7.1.tmp.2.2"}
}

type hostileThing struct {
	name string
	make func(string) error
}

const closedFolder = "closed folder"

func hostileThings() []hostileThing {
	return []hostileThing{
		{"link to nowhere", func(p string) error { return os.Symlink("/nowhere/at/all", p) }},
		{"link to itself", func(p string) error { return os.Symlink(filepath.Base(p), p) }},
		{"link to the folder", func(p string) error { return os.Symlink("..", p) }},
		{"link to a device", func(p string) error { return os.Symlink("/dev/zero", p) }},
		{"fifo", func(p string) error { return syscall.Mkfifo(p, 0o600) }},
		{"socket", makeSocket},
		{"device", func(p string) error { return syscall.Mknod(p, syscall.S_IFCHR|0o600, 1<<8|5) }}, // /dev/zero
		{"folder", func(p string) error { return os.MkdirAll(filepath.Join(p, "x", "y"), 0o700) }},
		{"deep folder", func(p string) error { return os.MkdirAll(p+strings.Repeat("/d", 60), 0o700) }},
		{closedFolder, func(p string) error { return os.Mkdir(p, 0) }},
		{"closed file", func(p string) error { return os.WriteFile(p, []byte("x"), 0) }},
		{"empty file", func(p string) error { return os.WriteFile(p, nil, 0o600) }},
		{"garbage", func(p string) error { return os.WriteFile(p, []byte(strings.Repeat("garbage\x00\xff", 5000)), 0o600) }},
		{"huge sparse file", func(p string) error {
			f, err := os.Create(p)
			if err != nil {
				return err
			}
			defer f.Close()
			return f.Truncate(1 << 42)
		}},
	}
}

// makeSocket binds a socket; the path of one is short, so it is made elsewhere.
func makeSocket(p string) error {
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	short, err := os.MkdirTemp("/tmp", "s")
	if err != nil {
		return err
	}
	defer os.RemoveAll(short)
	if err := syscall.Bind(fd, &syscall.SockaddrUnix{Name: short + "/s"}); err != nil {
		return err
	}
	return os.Rename(short+"/s", p)
}

// hostileStart opens a store on a folder and wants it to work, twice. closed says that there
// are folders in it that nobody may enter.
func hostileStart(t *testing.T, root string, closed bool) {
	a := newTalk(1, 64)
	for range 2 {
		w := newWorld(t, vfs.OS, func(o *kvstore.Options) { o.Dir, o.BudgetBytes = root, 1<<50 })
		if ok, why := w.s.Health(); !ok {
			t.Fatalf("health: %s\n%s", why, w.dumpLog())
		}
		w.save(a)
		w.s.Strike(w.s.Lookup(newTalk(9, 9).text()).IDs, "nothing")
		in := w.begin(a)
		if n := w.restore(a); n != 64 {
			t.Fatalf("restored %d\n%s", n, w.dumpLog())
		}
		in.Done()
		w.s.Settle()
		// Who is not root cannot look into a closed folder, and is told so.
		_, err := kvstore.LookAt(context.Background(), vfs.OS, root, kvstore.SurveyOptions{Full: true})
		if err != nil && !(closed && os.Geteuid() != 0 && errors.Is(err, fs.ErrPermission)) {
			t.Errorf("look from outside: %v", err)
		}
		w.close()
	}
}

// FuzzFolder puts any bytes under any name into a folder and opens it: what was
// good is found, nothing wrong is restored, nothing temporary stays.
func FuzzFolder(f *testing.F) {
	a := newTalk(1, 64)
	m, ids := stored(f, a)
	good, err := vfs.ReadFile(m, file(ids[1]), 1<<20)
	must(f, err)
	f.Add("journal", []byte("garbage"))
	f.Add("inflight/1", []byte(`{"chain":["`+ids[0]+`"],"phase":"restore","boot_id":"other"}`))
	f.Add("quarantine/"+ids[0]+".1.torn.kv", good)
	f.Add("segments/00/"+strings.Repeat("0", 39)+"1.kv", good)
	f.Add("tmp/"+ids[0]+".1.1", good[:100])
	f.Fuzz(func(t *testing.T, name string, data []byte) {
		name = filepath.ToSlash(filepath.Join(dir, name))
		if !strings.HasPrefix(name, dir+"/") || m.KillClone().MkdirAll(filepath.Dir(name)) != nil {
			return
		}
		disk := m.KillClone()
		if _, err := disk.Lstat(name); err == nil && !strings.HasSuffix(name, "/journal") {
			return // a folder of ours, or a good file
		}
		put(t, disk, name, data)
		w := newWorld(t, disk)
		n := w.restore(a)
		judged := strings.HasPrefix(name, dir+"/inflight/") || strings.HasSuffix(name, "/journal")
		if n != 64 && !judged {
			t.Fatalf("%s: restored %d\n%s", name, n, w.dumpLog())
		}
		for _, base := range w.names("tmp") {
			if fi, err := disk.Lstat(dir + "/tmp/" + base); err == nil && !fi.IsDir() {
				t.Fatalf("%s stays", base)
			}
		}
		w.close()
	})
}

// FuzzJournal puts any records into the journal: strikes and verdicts may cost
// segments, and nothing else.
func FuzzJournal(f *testing.F) {
	a := newTalk(1, 64)
	m, ids := stored(f, a)
	f.Add([]byte("x"), uint8(3))
	f.Add([]byte(ids[0]), uint8(1))
	f.Fuzz(func(t *testing.T, data []byte, n uint8) {
		disk := m.KillClone()
		must(t, ignoreGone(disk.Remove(dir+"/journal")))
		jw := journal.NewWriter(disk, dir+"/journal", 0, 0)
		recs := fuzzRecords(data, int(n), ids)
		must(t, jw.Rewrite(true, recs))
		must(t, jw.Close())
		w := newWorld(t, disk)
		w.restore(a)
		w.s.Strike(ids, "test")
		w.save(newTalk(2, 32))
		w.reopen()
		w.restore(a)
		if ok, why := w.s.Health(); !ok {
			t.Fatal(why)
		}
		w.close()
	})
}

func ignoreGone(err error) error {
	if err != nil && strings.Contains(err.Error(), "no such file") {
		return nil
	}
	return err
}

// fuzzRecords makes records from any bytes, half of them about real segments.
func fuzzRecords(data []byte, n int, ids []string) []journal.Record {
	at := 0
	next := func() byte {
		if len(data) == 0 {
			return 0
		}
		at++
		return data[(at-1)%len(data)]
	}
	word := func() (v uint64) {
		for range 8 {
			v = v<<8 | uint64(next())
		}
		return v
	}
	var recs []journal.Record
	for range n {
		r := journal.Record{Kind: journal.Kind(1 + next()%4), Count: uint32(word()), TimeNS: int64(word()), Key: word()}
		if next()%2 == 0 {
			r.ID, _ = segment.ParseID(ids[int(next())%len(ids)])
			r.TimeNS = 1_700_000_000_000_000_000 + int64(next())*1_000_000
		} else {
			for i := range r.ID {
				r.ID[i] = next()
			}
		}
		recs = append(recs, r)
	}
	return recs
}
