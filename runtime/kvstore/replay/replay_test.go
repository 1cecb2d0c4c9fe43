package replay

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"ds4/faults/errfs"
	"ds4/runtime/vfs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const name = "kv/toolcalls"

// world is a memory with its file on a disk that a test can break.
type world struct {
	*testing.T
	disk *errfs.Mem
	m    *Memory
	size int64 // as Resized tells it

	mu  sync.Mutex // the writer logs and looks at the clock by itself
	now time.Time
	log []string
}

func newWorld(t *testing.T, disk *errfs.Mem, change func(*Options)) *world {
	t.Helper()
	w := &world{T: t, disk: disk, now: time.Unix(1_800_000_000, 0)}
	if err := errors.Join(disk.MkdirAll("kv"), disk.SyncDir(".")); err != nil {
		t.Fatal(err)
	}
	if fi, err := disk.Lstat(name); err == nil {
		w.size = fi.Size()
	}
	opt := Options{FS: disk, Name: name, Sync: true, Resized: func(d int64) { w.size += d },
		Log: func(format string, args ...any) {
			w.mu.Lock()
			w.log = append(w.log, fmt.Sprintf(format, args...))
			w.mu.Unlock()
		},
		Now: func() time.Time {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.now
		}}
	if change != nil {
		change(&opt)
	}
	w.m = Open(opt)
	t.Cleanup(w.close)
	return w
}

func (w *world) close() {
	if w.m == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := w.m.Close(ctx); err != nil {
		w.Error(err)
	}
	w.m = nil
}

func blockOf(i int) []byte { return bytes.Repeat([]byte(fmt.Sprintf("block %d.", i)), 1+i%40) }

func idsOf(i int) []string {
	ids := []string{fmt.Sprintf("call_%032x", i)}
	if i%3 == 0 {
		ids = append(ids, fmt.Sprintf("toolu_%032x", i))
	}
	return ids
}

// check says which of the calls 0..n-1 are remembered; a wrong block is an error.
func check(t interface{ Fatalf(string, ...any) }, m *Memory, n int) (have map[int]bool) {
	have = map[int]bool{}
	for i := range n {
		for _, id := range idsOf(i) {
			block, ok := m.Lookup(id)
			if ok && !bytes.Equal(block, blockOf(i)) {
				t.Fatalf("call %d has block %.60q", i, block)
			}
			have[i] = ok
		}
	}
	return have
}

// TestSurvives: calls are known after a restart, after a kill, and after a power cut.
func TestSurvives(t *testing.T) {
	const n = 50
	disk := errfs.NewMem()
	w := newWorld(t, disk, nil)
	for i := range n {
		w.m.Remember(idsOf(i), blockOf(i))
	}
	killed := disk.KillClone()
	w.close()
	if fi, err := disk.Lstat(name); err != nil || fi.Size() != w.size {
		t.Errorf("size %v, %v; told %d", fi.Size(), err, w.size)
	}
	for what, d := range map[string]*errfs.Mem{"restart": disk, "kill": killed, "power cut": disk.CrashClone(nil)} {
		if have := check(t, newWorld(t, d, nil).m, n); count(have) != n {
			t.Errorf("%s: %d of %d", what, count(have), n)
		}
	}
}

func count(have map[int]bool) (n int) {
	for _, ok := range have {
		if ok {
			n++
		}
	}
	return n
}

// TestPowerCut: whatever of the unsynced bytes a cut leaves, no block is wrong, and the
// next process can go on with the file.
func TestPowerCut(t *testing.T) {
	const n = 30
	for seed := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, 1))
		disk := errfs.NewMem()
		w := newWorld(t, disk, func(o *Options) { o.Sync = seed%2 == 0 })
		for i := range n {
			w.m.Remember(idsOf(i), blockOf(i))
			if i == n/2 {
				w.m.Clear()
			}
		}
		crashed := disk.CrashClone(rng)
		w.close()
		next := newWorld(t, crashed, nil)
		check(t, next.m, n)
		for i := range n {
			next.m.Remember(idsOf(i), blockOf(i))
		}
		next.close()
		if have := check(t, newWorld(t, crashed, nil).m, n); count(have) != n {
			t.Fatalf("seed %d: %d of %d after the cut was repaired", seed, count(have), n)
		}
	}
}

// TestBounds: ids, bytes and the file stay within their bounds, and what was used last
// stays.
func TestBounds(t *testing.T) {
	for _, c := range []struct {
		name string
		opt  func(*Options)
	}{
		{"ids", func(o *Options) { o.MaxIDs = 20 }},
		{"bytes", func(o *Options) { o.MaxBytes = 10_000 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, errfs.NewMem(), c.opt)
			const n = 2000
			for i := range n {
				w.m.Remember(idsOf(i), blockOf(i))
				if _, ok := w.m.Lookup(idsOf(0)[0]); !ok {
					t.Fatalf("the call that is in use is gone after %d", i)
				}
				if s := w.m.Stats(); s.IDs > w.m.opt.MaxIDs || s.Bytes > w.m.opt.MaxBytes {
					t.Fatalf("after %d: %+v", i, s)
				}
			}
			if len(w.m.byID) < 8 || w.m.recent.Len() < 5 {
				t.Errorf("only %d ids", len(w.m.byID))
			}
			have := count(check(t, w.m, n))
			w.close()
			if limit := 2*w.m0Bytes(c.opt) + slackBytes + 4096; w.size > limit {
				t.Errorf("the file has %d bytes, limit %d", w.size, limit)
			}
			next := newWorld(t, w.disk, c.opt)
			if got := count(check(t, next.m, n)); got < have-1 {
				t.Errorf("%d calls after a restart, %d before", got, have)
			}
		})
	}
	m := Open(Options{})
	m.Remember([]string{strings.Repeat("x", MaxIDBytes+1)}, []byte("b"))
	m.Remember([]string{"a"}, make([]byte, MaxBlockBytes+1))
	m.Remember(make([]string, MaxIDs+1), []byte("b"))
	m.Remember([]string{"a"}, nil)
	if s := m.Stats(); s != (Stats{}) {
		t.Errorf("beyond the limits: %+v", s)
	}
}

// m0Bytes is the bound of bytes that an option sets.
func (w *world) m0Bytes(change func(*Options)) int64 {
	o := Options{MaxIDs: DefaultIDs, MaxBytes: DefaultBytes}
	change(&o)
	return min(o.MaxBytes, int64(o.MaxIDs)*1000)
}

// TestDamage: bytes that change cost the records that they hit, and never give a wrong
// block.
func TestDamage(t *testing.T) {
	const n = 40
	var file []byte
	for i := range n {
		var err error
		if file, err = (Record{idsOf(i), blockOf(i)}).Append(file); err != nil {
			t.Fatal(err)
		}
	}
	rapid.Check(t, func(rt *rapid.T) {
		bad := bytes.Clone(file)
		hits := rapid.IntRange(1, 3).Draw(rt, "hits")
		for range hits {
			at := rapid.IntRange(0, len(bad)-1).Draw(rt, "at")
			switch rapid.IntRange(0, 2).Draw(rt, "how") {
			case 0:
				bad[at] ^= byte(rapid.IntRange(1, 255).Draw(rt, "flip"))
			case 1:
				bad = append(bad[:at:at], bad[min(len(bad), at+rapid.IntRange(1, 50).Draw(rt, "cut")):]...)
			case 2:
				bad = bad[:max(at, 1)]
			}
			if len(bad) == 0 {
				return
			}
		}
		disk := errfs.NewMem()
		if err := errors.Join(disk.MkdirAll("kv"), vfs.WriteFileAtomic(disk, name, bad, true)); err != nil {
			rt.Fatal(err)
		}
		m := Open(Options{FS: disk, Name: name})
		have := check(rt, m, n)
		m.Remember(idsOf(n), blockOf(n))
		if err := m.Close(context.Background()); err != nil {
			rt.Fatal(err)
		}
		again := Open(Options{FS: disk, Name: name, Log: func(format string, args ...any) {
			if strings.Contains(format, "damaged") {
				rt.Fatalf(format, args...)
			}
		}})
		if got := check(rt, again, n+1); count(got) != count(have)+1 {
			rt.Fatalf("%d calls after a repair, %d and one more before", count(got), count(have))
		}
		_ = again.Close(context.Background())
	})
	// One flip in one record costs one record.
	bad := bytes.Clone(file)
	bad[len(bad)/2] ^= 1
	good := 0
	scan(bad, func(Record) { good++ })
	if good != n-1 {
		t.Errorf("a flip costs %d records", n-good)
	}
}

// TestFailingDisk: nothing of it reaches a caller, and when the disk is well again, what
// it missed is written.
func TestFailingDisk(t *testing.T) {
	for _, op := range []errfs.Op{errfs.OpAppend, errfs.OpWrite, errfs.OpSync, errfs.OpCreate, errfs.OpRename, errfs.OpSyncDir} {
		t.Run(string(op), func(t *testing.T) {
			rule, err := errfs.Parse(string(op) + ":enospc")
			if err != nil {
				t.Fatal(err)
			}
			disk := errfs.NewMem()
			broken := errfs.Wrap(disk)
			w := newWorld(t, disk, func(o *Options) { o.FS = broken })
			w.m.Remember(idsOf(0), blockOf(0))
			broken.SetRules(rule)
			for i := 1; i < 5; i++ {
				w.m.Remember(idsOf(i), blockOf(i))
			}
			w.m.Clear() // a new file
			for i := range 5 {
				w.m.Remember(idsOf(i), blockOf(i))
			}
			if have := check(t, w.m, 5); count(have) != 5 {
				t.Errorf("%d of 5 in memory", count(have))
			}
			broken.SetRules()
			w.mu.Lock()
			w.now = w.now.Add(longestPause)
			w.mu.Unlock()
			w.m.Remember(idsOf(5), blockOf(5))
			w.close()
			if len(w.log) != 1 || !strings.Contains(w.log[0], "tool calls are not written") {
				t.Errorf("log %q", w.log)
			}
			if fi, err := disk.Lstat(name); err != nil || fi.Size() != w.size {
				t.Errorf("the file has %d bytes, told %d: %v", fi.Size(), w.size, err)
			}
			if have := check(t, newWorld(t, disk, nil).m, 6); count(have) != 6 {
				t.Errorf("%d of 6 after the restart", count(have))
			}
		})
	}
}

// TestNotOurs: a folder that another process writes to is left alone.
func TestNotOurs(t *testing.T) {
	disk := errfs.NewMem()
	first := newWorld(t, disk, nil)
	first.m.Remember(idsOf(0), blockOf(0))
	first.close()
	second := newWorld(t, disk, func(o *Options) { o.Writable = func() error { return errors.New("read-only") } })
	second.m.Remember(idsOf(1), blockOf(1))
	second.m.Clear()
	second.close()
	if have := check(t, newWorld(t, disk, nil).m, 2); !have[0] || have[1] {
		t.Errorf("have %v", have)
	}
}

// TestSuccessor: a process that could not write for a while takes over the file of the
// one that did, and keeps what that one had remembered meanwhile, unless everything was
// to be forgotten.
func TestSuccessor(t *testing.T) {
	for _, forget := range []bool{false, true} {
		disk := errfs.NewMem()
		var mine atomic.Bool
		reader := newWorld(t, disk, func(o *Options) {
			o.Writable = func() error {
				if !mine.Load() {
					return errors.New("not ours")
				}
				return nil
			}
		})
		writer := newWorld(t, disk, nil)
		for i := range 5 {
			writer.m.Remember(idsOf(i), blockOf(i))
		}
		writer.close()
		mine.Store(true)
		if forget {
			reader.m.Clear()
		}
		reader.m.Remember(idsOf(7), blockOf(7))
		reader.close()
		next := newWorld(t, disk, nil)
		want := 6
		if forget {
			want = 1
		}
		if have := check(t, next.m, 10); count(have) != want || !have[7] {
			t.Errorf("forget %t: the next process has %v", forget, have)
		}
		next.close()
	}
}

// TestFolderReplaced: a file that went away is written again.
func TestFolderReplaced(t *testing.T) {
	disk := errfs.NewMem()
	w := newWorld(t, disk, nil)
	w.m.Remember(idsOf(0), blockOf(0))
	w.m.Remember(idsOf(1), blockOf(1))
	if err := disk.Remove(name); err != nil {
		t.Fatal(err)
	}
	w.m.Remember(idsOf(2), blockOf(2))
	w.close()
	if have := check(t, newWorld(t, disk, nil).m, 3); count(have) != 3 {
		t.Errorf("have %v", have)
	}
}

// TestHostileFile: headers that are good and promise more than there is cost time in
// proportion to the file.
func TestHostileFile(t *testing.T) {
	var file []byte
	for range 200_000 {
		h := binary.LittleEndian.AppendUint32(nil, magic)
		h = binary.LittleEndian.AppendUint32(h, maxBody)
		h = binary.LittleEndian.AppendUint32(h, 0)
		file = append(file, binary.LittleEndian.AppendUint32(h, crc32.Checksum(h, castagnoli))...)
	}
	decoded := 0
	for used := 0; used < len(file); decoded++ {
		n, _ := scan(file[used:], func(Record) { t.Error("a record") })
		if n == 0 {
			break
		}
		used += n
	}
	if decoded > 1+len(file)/maxBody {
		t.Errorf("%d rounds", decoded)
	}
}

// TestConcurrentUse gives the race detector something to look at.
func TestConcurrentUse(t *testing.T) {
	w := newWorld(t, errfs.NewMem(), func(o *Options) { o.MaxIDs = 50 })
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 100 {
				w.m.Remember(idsOf(g*100+i), blockOf(g*100+i))
				check(t, w.m, 5)
				if i == 50 && g == 0 {
					w.m.Clear()
				}
			}
		})
	}
	wg.Wait()
}

// FuzzScan: any bytes are read without panic, and what is taken for a record is within
// the limits and encodes to what it was.
func FuzzScan(f *testing.F) {
	for i := range 4 {
		b, err := Record{idsOf(i), blockOf(i)}.Append(nil)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
		f.Add(b[:len(b)-1])
		f.Add(append(b[3:], b...))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		used, skipped := scan(b, func(r Record) {
			again, err := r.Append(nil)
			if err != nil || !bytes.Contains(b, again) {
				t.Fatalf("record %q, %v", r, err)
			}
		})
		if used < 0 || used > len(b) || skipped < 0 || skipped > int64(used) {
			t.Fatalf("used %d, skipped %d of %d", used, skipped, len(b))
		}
	})
}

// TestReplacedInPieces: a file of several megabytes is written anew when most of it is
// not in use any more, and is the same to the next process.
func TestReplacedInPieces(t *testing.T) {
	w := newWorld(t, errfs.NewMem(), nil)
	const n, rounds = 40, 5
	big := func(i int) []byte { return bytes.Repeat(blockOf(i), 100_000/len(blockOf(i))) }
	for range rounds {
		for i := range n {
			w.m.Remember(idsOf(i), big(i))
		}
	}
	w.close()
	if w.size < 3*readBytes || w.size > 2*n*110_000 {
		t.Errorf("the file has %d bytes", w.size)
	}
	if fi, err := w.disk.Lstat(name); err != nil || fi.Size() != w.size {
		t.Errorf("size %v, %v; told %d", fi, err, w.size)
	}
	next := newWorld(t, w.disk, nil)
	for i := range n {
		if block, ok := next.m.Lookup(idsOf(i)[0]); !ok || !bytes.Equal(block, big(i)) {
			t.Fatalf("call %d: %v, %d bytes", i, ok, len(block))
		}
	}
}
