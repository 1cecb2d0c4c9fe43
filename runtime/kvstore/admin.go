package kvstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"sort"
	"strings"
	"time"

	"ds4/runtime/kvstore/segment"
	"ds4/runtime/vfs"
)

// FileInfo is one file of a cache folder, seen from outside of a server.
type FileInfo struct {
	ID       string    `json:"id"`
	Path     string    `json:"path"`
	Bytes    int64     `json:"bytes"`
	Identity string    `json:"identity,omitempty"` // hex
	Parent   string    `json:"parent,omitempty"`
	From     int       `json:"from"`
	To       int       `json:"to"`
	Created  time.Time `json:"created"`
	// Verdict is "ok", or what is wrong with the file.
	Verdict string `json:"verdict"`
}

// Listing is what Inspect finds.
type Listing struct {
	Segments    []FileInfo `json:"segments"`
	Quarantined []FileInfo `json:"quarantined"` // only ID (with time and reason), Path and Bytes
	Bytes       int64      `json:"bytes"`       // of everything under the folder
	// InUseBy describes the server that has the folder; empty if none does.
	InUseBy string `json:"in_use_by,omitempty"`
}

// Inspect lists a cache folder without a Store and without changing anything. It
// is safe beside a running server; files that come and go meanwhile may be
// missed. With full it reads every byte of every segment.
func Inspect(ctx context.Context, fsys vfs.FS, dir string, full bool) (*Listing, error) {
	d := folder(dir)
	l := &Listing{Bytes: sizeOf(fsys, dir, maxDepth), InUseBy: inUse(fsys, d)}
	if _, err := fsys.Lstat(dir); err != nil {
		return nil, fmt.Errorf("kvstore: inspect: %w", err)
	}
	err := eachSegment(ctx, fsys, d, func(id segment.ID, name string, e vfs.Entry) error {
		l.Segments = append(l.Segments, inspectFile(fsys, id, name, full))
		return nil
	})
	if err == nil {
		err = ignoreMissing(fsys.ReadDir(d.quarantine(), func(e vfs.Entry) error {
			if _, ok := parseQuarantined(e.Name); ok && path.Ext(e.Name) == segmentExt {
				name := path.Join(d.quarantine(), e.Name)
				l.Quarantined = append(l.Quarantined, FileInfo{ID: strings.TrimSuffix(e.Name, segmentExt), Path: name,
					Bytes: sizeOf(fsys, name, 0), Verdict: "quarantined"})
			}
			return nil
		}))
	}
	if err != nil {
		return nil, fmt.Errorf("kvstore: inspect: %w", err)
	}
	sort.Slice(l.Segments, func(i, j int) bool {
		a, b := l.Segments[i], l.Segments[j]
		if a.From != b.From {
			return a.From < b.From
		}
		return a.ID < b.ID
	})
	return l, nil
}

// VerifyDir is Inspect with every byte read.
func VerifyDir(ctx context.Context, fsys vfs.FS, dir string) (*Listing, error) {
	return Inspect(ctx, fsys, dir, true)
}

// eachSegment calls visit for every name that is a segment's.
func eachSegment(ctx context.Context, fsys vfs.FS, d folder, visit func(id segment.ID, name string, e vfs.Entry) error) error {
	return ignoreMissing(fsys.ReadDir(d.segments(), func(x vfs.Entry) error {
		if !x.Type.IsDir() || !isShard(x.Name) {
			return nil
		}
		return ignoreMissing(fsys.ReadDir(d.shard(x.Name), func(e vfs.Entry) error {
			if err := ctx.Err(); err != nil {
				return err
			}
			if id, ok := parseSegmentName(x.Name, e.Name); ok {
				return visit(id, path.Join(d.shard(x.Name), e.Name), e)
			}
			return nil
		}))
	}))
}

func inspectFile(fsys vfs.FS, id segment.ID, name string, full bool) FileInfo {
	fi := FileInfo{ID: id.String(), Path: name, Verdict: "ok"}
	f, err := fsys.Open(name)
	if err != nil {
		fi.Verdict = errnoText(err)
		return fi
	}
	defer f.Close()
	if fi.Bytes, err = f.Size(); err != nil {
		fi.Verdict = errnoText(err)
		return fi
	}
	r := segment.Reader{R: f, Size: fi.Bytes}
	h, err := r.Header()
	if err != nil {
		fi.Verdict = oneLine(err.Error())
		return fi
	}
	fi.Identity, fi.From, fi.To, fi.Created = fmt.Sprintf("%x", h.Identity), h.From, h.To, time.Unix(0, h.CreatedNS)
	if !h.Parent.IsZero() {
		fi.Parent = h.Parent.String()
	}
	in, err := r.Info(h, nil)
	if err == nil && full {
		var got segment.ID
		if got, err = r.Verify(in, nil); err == nil && got != id {
			err = fmt.Errorf("%w: text hashes to %v", segment.ErrCorrupt, got)
		}
	}
	if err != nil {
		fi.Verdict = oneLine(err.Error())
	}
	return fi
}

// DumpFile reads one segment file, wherever it lies.
func DumpFile(fsys vfs.FS, name string) (*segment.Dump, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, fmt.Errorf("kvstore: dump: %w", err)
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, fmt.Errorf("kvstore: dump: %w", err)
	}
	d, err := segment.Reader{R: f, Size: size}.Inspect()
	if err != nil {
		return nil, fmt.Errorf("kvstore: dump %s: %w", name, err)
	}
	return d, nil
}

// inUse returns who holds the lock, or "".
func inUse(fsys vfs.FS, d folder) string {
	if _, err := fsys.Lstat(d.lock()); err != nil {
		return ""
	}
	l, err := fsys.Lock(d.lock())
	if errors.Is(err, vfs.ErrLocked) {
		return lockHolder(fsys, d)
	}
	if err == nil {
		_ = l.Close()
	}
	return ""
}

// Purge removes everything of ours under a folder: segments, temporary files,
// markers, quarantine, journal. What is not ours stays. It takes the lock for the
// time being: ErrLocked, and who has it, while a server runs.
func Purge(fsys vfs.FS, dir string) (Freed, error) {
	var freed Freed
	d := folder(dir)
	if _, err := fsys.Lstat(dir); err != nil {
		return freed, fmt.Errorf("kvstore: purge: %w", err)
	}
	lock, err := fsys.Lock(d.lock())
	if errors.Is(err, vfs.ErrLocked) {
		return freed, fmt.Errorf("%w by %s; ask that server with POST /v1/kv/clear", ErrLocked, lockHolder(fsys, d))
	}
	if err != nil {
		return freed, fmt.Errorf("kvstore: purge: %w", err)
	}
	defer lock.Close()
	remove := func(name string, count *int) {
		size := sizeOf(fsys, name, 0)
		err := fsys.Remove(name)
		if errors.Is(err, fs.ErrNotExist) {
			return
		}
		freed.add(count, size, err)
	}
	var shards []string
	err = eachSegment(context.Background(), fsys, d, func(_ segment.ID, name string, _ vfs.Entry) error {
		remove(name, &freed.Segments)
		if p := path.Dir(name); len(shards) == 0 || shards[len(shards)-1] != p {
			shards = append(shards, p)
		}
		return nil
	})
	sweep := func(sub string, ours func(base string) bool, count *int) {
		err = errors.Join(err, ignoreMissing(fsys.ReadDir(sub, func(e vfs.Entry) error {
			if !e.Type.IsDir() && ours(e.Name) {
				remove(path.Join(sub, e.Name), count)
			}
			return nil
		})))
	}
	all := func(string) bool { return true }
	sweep(d.tmp(), all, &freed.Others)
	sweep(d.inflight(), all, &freed.Others)
	sweep(d.quarantine(), func(b string) bool { _, ok := parseQuarantined(b); return ok || vfs.IsTemp(b) }, &freed.Quarantined)
	remove(d.journal(), &freed.Others)
	for _, sub := range shards {
		_ = fsys.Remove(sub) // only if nothing else is in it
	}
	if err != nil {
		return freed, fmt.Errorf("kvstore: purge: %w", err)
	}
	return freed, nil
}
