package blank_test

import (
	"context"
	"io/fs"
	"path/filepath"
	"testing"

	"ds4/runtime/kvstore"
	"ds4/runtime/kvstore/blank"
	"ds4/runtime/kvstore/segment"
	"ds4/runtime/vfs"
)

// TestFill: what is written passes the full check, is found by its text, and
// takes less room than its length says.
func TestFill(t *testing.T) {
	l := segment.Layout{Vocab: 5000, Window: 64, Layers: []segment.Layer{{RowBytes: 700}, {Ratio: 4, RowBytes: 700, IndexRowBytes: 64, ClosedBytes: 900}}}
	opt := kvstore.Options{FS: blank.FS, Dir: t.TempDir(), Identity: [32]byte{7}, Layout: l, MinTokens: 1, Sync: kvstore.SyncNone}
	s := open(t, opt)
	seen := 0
	text, err := blank.Fill(t.Context(), s, l, blank.Plan{Conversations: 3, Segments: 4, Tokens: 64, TextBytes: 300, Seed: 1}, func(n int) { seen = n })
	if err != nil || seen != 3 {
		t.Fatal(seen, err)
	}
	closeStore(t, s)

	opt.FS, opt.Validate = vfs.OS, kvstore.ValidateFull
	s = open(t, opt)
	defer closeStore(t, s)
	if v := s.Stats().Recovery; v.OK != 12 || v.Scanned != 12 {
		t.Errorf("recovery %+v", v)
	}
	if c := s.Lookup(text); c.Tokens != 256 || c.TextLen != len(text) {
		t.Errorf("found %+v of %d bytes", c, len(text))
	}
	var length int64
	err = filepath.WalkDir(opt.Dir, func(name string, d fs.DirEntry, err error) error {
		if err == nil && filepath.Ext(name) == ".kv" {
			fi, _ := d.Info()
			length += fi.Size()
		}
		return err
	})
	if err != nil || length != s.Stats().SegmentBytes {
		t.Errorf("%d bytes, the store says %d, %v", length, s.Stats().SegmentBytes, err)
	}
}

func open(t *testing.T, opt kvstore.Options) *kvstore.Store {
	t.Helper()
	s, err := kvstore.Open(opt)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func closeStore(t *testing.T, s *kvstore.Store) {
	t.Helper()
	if err := s.Close(context.Background()); err != nil {
		t.Error(err)
	}
}
