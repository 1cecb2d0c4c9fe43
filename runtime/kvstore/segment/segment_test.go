package segment

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := Layout{Vocab: rapid.SampledFrom([]int{1, 2, 70, 256, 257, 65536, 65537, MaxVocab}).Draw(t, "vocab"), Window: rapid.IntRange(0, 200).Draw(t, "window")}
		for range rapid.IntRange(1, 5).Draw(t, "layers") {
			y := Layer{RowBytes: rapid.IntRange(1, 90).Draw(t, "row")}
			if y.Ratio = rapid.SampledFrom([]int{0, 4, 128}).Draw(t, "ratio"); y.Ratio > 0 {
				y.IndexRowBytes = rapid.IntRange(0, 20).Draw(t, "index row")
				y.ClosedBytes = rapid.IntRange(0, 300).Draw(t, "closed")
				y.OpenBytes = rapid.IntRange(0, 20).Draw(t, "open")
			}
			l.Layers = append(l.Layers, y)
		}
		from := rapid.SampledFrom([]int{0, 1, 127, 128, 2048}).Draw(t, "from")
		to := from + rapid.IntRange(1, 300).Draw(t, "tokens")
		var parent ID
		if from > 0 {
			parent = ID(rapid.SliceOfN(rapid.Byte(), 20, 20).Draw(t, "parent"))
			parent[0] |= 1
		}
		text := rapid.SliceOfN(rapid.Byte(), 1, 400).Draw(t, "text")
		s := makeSegment(rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0)), l, [32]byte{9}, parent, from, to, text)
		e, err := Encode(l, s)
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if _, err := e.WriteTo(&b); err != nil {
			t.Fatal(err)
		}
		if int64(b.Len()) != e.Bytes || e.Bytes != l.FileBytes(from, to, len(text)) {
			t.Fatalf("%d bytes, Encoded says %d, the layout %d", b.Len(), e.Bytes, l.FileBytes(from, to, len(text)))
		}
		r := reader(b.Bytes())
		got, err := r.Decode(l, s.Identity)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(s, got, cmpopts.EquateEmpty()); d != "" {
			t.Fatal(d)
		}
		if got.ID() != e.ID {
			t.Fatalf("id %v, encoded as %v", got.ID(), e.ID)
		}
		d, err := r.Inspect()
		if err != nil || d.Verdict != "ok" || d.ID != e.ID.String() {
			t.Fatalf("dump: %+v, %v", d, err)
		}
	})
}

// TestEveryBit: no single flipped bit of a file is accepted by Verify, and
// Info finds those of header, table and footer. With checksums off, flips of
// rows pass: the test can fail.
func TestEveryBit(t *testing.T) {
	s, l := sample()
	file := encode(t, l, s)
	headEnd := HeaderBytes + EntryBytes*len(mustInfo(t, l, file).Table)
	unseen := 0
	for bit := range 8 * len(file) {
		bad := bytes.Clone(file)
		bad[bit/8] ^= 1 << (bit % 8)
		r := reader(bad)
		if h, err := r.Header(); err == nil && h.Identity == s.Identity {
			in, err := r.Info(h, &l)
			if err == nil && (bit/8 < headEnd || bit/8 >= len(file)-FooterBytes) {
				t.Fatalf("bit %d of byte %d: Info accepts it", bit%8, bit/8)
			}
			if err == nil {
				if id, err := r.Verify(in, &l); err == nil || !isVerdict(err) {
					t.Fatalf("bit %d of byte %d: Verify returns %v, %v", bit%8, bit/8, id, err)
				}
			}
		}
		r.NoChecksum = true
		if got, err := r.Decode(l, s.Identity); err == nil && got.ID() == s.ID() {
			unseen++
		}
	}
	if unseen == 0 {
		t.Error("no flip passes without checksums: this test proves nothing about them")
	}
}

func mustInfo(t testing.TB, l Layout, file []byte) *Info {
	t.Helper()
	r := reader(file)
	h, err := r.Header()
	if err != nil {
		t.Fatal(err)
	}
	in, err := r.Info(h, &l)
	if err != nil {
		t.Fatal(err)
	}
	return in
}

func TestEveryLength(t *testing.T) {
	s, l := sample()
	file := encode(t, l, s)
	for n := range len(file) {
		if _, err := reader(file[:n]).Decode(l, s.Identity); !errors.Is(err, ErrTorn) {
			t.Fatalf("%d of %d bytes: %v, want ErrTorn", n, len(file), err)
		}
	}
	longer := append(bytes.Clone(file), 0)
	if _, err := reader(longer).Decode(l, s.Identity); !errors.Is(err, ErrCorrupt) {
		t.Errorf("one byte more: %v", err)
	}
	// The right size with a tail that never reached the disk.
	for _, keep := range []int{0, 64, HeaderBytes, len(file) / 2, len(file) - FooterBytes} {
		zeroed := make([]byte, len(file))
		copy(zeroed, file[:keep])
		if _, err := reader(zeroed).Decode(l, s.Identity); !errors.Is(err, ErrTorn) && !errors.Is(err, ErrCorrupt) {
			t.Errorf("zeros from %d: %v", keep, err)
		}
	}
}

// TestMalformed changes one field at a time, with right checksums.
func TestMalformed(t *testing.T) {
	s, l := sample()
	le := binary.LittleEndian
	entry := func(i int) int { return HeaderBytes + EntryBytes*i }
	u16 := func(off int, v uint16) func([]byte) { return func(b []byte) { le.PutUint16(b[off:], v) } }
	u32 := func(off int, v uint32) func([]byte) { return func(b []byte) { le.PutUint32(b[off:], v) } }
	u64 := func(off int, v uint64) func([]byte) { return func(b []byte) { le.PutUint64(b[off:], v) } }
	for _, c := range []struct {
		name   string
		change func(b []byte)
		want   error
	}{
		{"magic", func(b []byte) { b[3] = 'x' }, ErrCorrupt},
		{"version 0", u16(offVersion, 0), ErrVersion},
		{"version 1", u16(offVersion, 1), ErrVersion},
		{"version 3", u16(offVersion, 3), ErrVersion},
		{"flags", u16(offFlags, 2), ErrCorrupt},
		{"header filling", func(b []byte) { b[127] = 1 }, ErrCorrupt},
		{"no sections", u32(offSections, 0), ErrCorrupt},
		{"one section less", u32(offSections, 9), ErrCorrupt},
		{"more sections than the limit", u32(offSections, MaxSections+1), ErrLimit},
		{"sections beyond the file", u32(offSections, 4000), ErrCorrupt},
		{"most sections", u32(offSections, math.MaxUint32), ErrLimit},
		{"identity", func(b []byte) { b[offIdentity] ^= 1 }, ErrIdentity},
		{"no parent", func(b []byte) { clear(b[offParent : offParent+20]) }, ErrCorrupt},
		{"from 0 with a parent", u64(offFrom, 0), ErrCorrupt},
		{"from beyond to", u64(offFrom, 38), ErrLimit},
		{"from moved", u64(offFrom, 11), ErrLayout},
		{"to moved", u64(offTo, 38), ErrLayout},
		{"to over the limit", u64(offTo, MaxPosition+1), ErrLimit},
		{"to huge", u64(offTo, math.MaxUint64), ErrLimit},
		{"too many tokens", u64(offTo, MaxTokens+11), ErrLimit},
		{"file bytes smaller", u64(offBytes, 1000), ErrCorrupt},
		{"file bytes larger", u64(offBytes, 1<<20), ErrTorn},
		{"file bytes huge", u64(offBytes, math.MaxUint64), ErrLimit},
		{"text first", u16(entry(0), uint16(Tokens)), ErrCorrupt},
		{"unknown kind", u16(entry(3), 77), ErrCorrupt},
		{"layer of raw", u16(entry(2)+2, 5), ErrLayout},
		{"rows of text", u32(entry(0)+4, 1), ErrLimit},
		{"rows of tokens", u32(entry(1)+4, 1), ErrLayout},
		{"rows of raw", u32(entry(2)+4, 7), ErrLayout},
		{"rows huge", u32(entry(2)+4, math.MaxUint32), ErrLayout},
		{"offset moved", u64(entry(2)+8, 64), ErrCorrupt},
		{"offset huge", u64(entry(2)+8, math.MaxUint64), ErrLimit},
		{"bytes of raw", u64(entry(2)+16, 47), ErrLayout},
		{"bytes beyond the file", u64(entry(2)+16, 1<<30), ErrCorrupt},
		{"bytes huge", u64(entry(2)+16, math.MaxUint64), ErrLimit},
		{"text of no bytes", u64(entry(0)+16, 0), ErrLimit},
		{"text of a gigabyte", u64(entry(0)+16, 1<<30), ErrLimit},
		{"table's spare bytes", u32(entry(2)+28, 1), ErrCorrupt},
		{"footer magic", func(b []byte) { b[len(b)-16] = 'x' }, ErrTorn},
		{"footer bytes", func(b []byte) { b[len(b)-32]++ }, ErrCorrupt},
		{"footer spare", func(b []byte) { b[len(b)-20] = 1 }, ErrCorrupt},
		{"footer tail", func(b []byte) { b[len(b)-1] = 1 }, ErrCorrupt},
	} {
		b := encode(t, l, s)
		c.change(b)
		seal(b)
		if _, err := reader(b).Decode(l, s.Identity); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

// TestMalformedContents: sections with right checksums and wrong contents.
func TestMalformedContents(t *testing.T) {
	s, l := sample()
	for _, c := range []struct {
		name string
		put  byte
		want string
	}{
		{"token beyond the vocabulary", 50, "token id 50, vocabulary of 50"},
		{"largest token", 255, "token id 255"},
	} {
		b := encode(t, l, s)
		in := mustInfo(t, l, b)
		for i, sec := range in.Table {
			if sec.Kind == Tokens {
				b[sec.Offset] = c.put
				binary.LittleEndian.PutUint32(b[HeaderBytes+EntryBytes*i+24:], Checksum(b[sec.Offset:sec.Offset+sec.Bytes]))
			}
		}
		seal(b)
		if _, err := reader(b).Decode(l, s.Identity); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

func TestOtherLayouts(t *testing.T) {
	s, l := sample()
	file := encode(t, l, s)
	for name, change := range map[string]func(*Layout){
		"vocabulary": func(l *Layout) { l.Vocab = 257 },
		"window":     func(l *Layout) { l.Window++ },
		"one layer more": func(l *Layout) {
			l.Layers = append(l.Layers, Layer{RowBytes: 6})
		},
		"one layer less": func(l *Layout) { l.Layers = l.Layers[:2] },
		"ratio":          func(l *Layout) { l.Layers[1].Ratio = 5 },
		"indexer":        func(l *Layout) { l.Layers[1].IndexRowBytes = 0 },
		"row":            func(l *Layout) { l.Layers[0].RowBytes++ },
		"closed window":  func(l *Layout) { l.Layers[1].ClosedBytes++ },
		"open window":    func(l *Layout) { l.Layers[2].OpenBytes++ },
		"no frontier":    func(l *Layout) { l.Layers[2].OpenBytes = 0 },
	} {
		other := testLayout()
		change(&other)
		if _, err := reader(file).Decode(other, s.Identity); !errors.Is(err, ErrLayout) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestEncodeRefuses(t *testing.T) {
	for name, change := range map[string]func(*Segment, *Layout){
		"no text":            func(s *Segment, _ *Layout) { s.Text = nil },
		"from = to":          func(s *Segment, _ *Layout) { s.From = s.To },
		"root with parent":   func(s *Segment, _ *Layout) { s.From = 0 },
		"no parent":          func(s *Segment, _ *Layout) { s.Parent = ID{} },
		"tokens missing":     func(s *Segment, _ *Layout) { s.Tokens = s.Tokens[1:] },
		"token too large":    func(s *Segment, _ *Layout) { s.Tokens[3] = 50 },
		"token negative":     func(s *Segment, _ *Layout) { s.Tokens[3] = -1 },
		"raw short":          func(s *Segment, _ *Layout) { s.Raw[2] = s.Raw[2][1:] },
		"raw missing":        func(s *Segment, _ *Layout) { s.Raw = s.Raw[:2] },
		"comp long":          func(s *Segment, _ *Layout) { s.Comp[1] = append(s.Comp[1], 0) },
		"comp of ratio 0":    func(s *Segment, _ *Layout) { s.Comp[0] = make([]byte, 6) },
		"index without one":  func(s *Segment, _ *Layout) { s.Index[2] = make([]byte, 3) },
		"frontier of none":   func(s *Segment, _ *Layout) { s.Frontier[0] = make([]byte, 3) },
		"frontier too full":  func(s *Segment, _ *Layout) { s.Frontier[2] = make([]byte, 6*5) },
		"layout no vocab":    func(_ *Segment, l *Layout) { l.Vocab = 0 },
		"layout no window":   func(_ *Segment, l *Layout) { l.Window = -1 },
		"layout frontier":    func(_ *Segment, l *Layout) { l.Layers[0].OpenBytes = 1 },
		"layout huge open":   func(_ *Segment, l *Layout) { l.Layers[2].OpenBytes = MaxRowBytes / 8 },
		"layout no layers":   func(_ *Segment, l *Layout) { l.Layers = nil },
		"layout bad row":     func(_ *Segment, l *Layout) { l.Layers[0].RowBytes = 0 },
		"layout many layers": func(_ *Segment, l *Layout) { l.Layers = make([]Layer, MaxLayers+1) },
	} {
		s, l := sample()
		change(s, &l)
		if _, err := Encode(l, s); !errors.Is(err, ErrInput) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestIDSeparates: everything that determines the contents is in the id.
func TestIDSeparates(t *testing.T) {
	base := MakeID([32]byte{1}, ID{2}, 3, []byte("text"))
	for name, other := range map[string]ID{
		"identity": MakeID([32]byte{2}, ID{2}, 3, []byte("text")),
		"parent":   MakeID([32]byte{1}, ID{3}, 3, []byte("text")),
		"from":     MakeID([32]byte{1}, ID{2}, 4, []byte("text")),
		"text":     MakeID([32]byte{1}, ID{2}, 3, []byte("texT")),
	} {
		if other == base {
			t.Errorf("%s is not part of the id", name)
		}
	}
	// The value itself is part of the format: a change of it loses every cache.
	if got, want := base.String(), "97b103e1e69ded3c6c44ff41124eadf6e0e1873b"; got != want {
		t.Errorf("id %s, want %s", got, want)
	}
	for _, bad := range []string{"", "zz", strings.Repeat("A", 40), strings.Repeat("g", 40), strings.Repeat("a", 41)} {
		if _, err := ParseID(bad); !errors.Is(err, ErrInput) {
			t.Errorf("ParseID(%q): %v", bad, err)
		}
	}
	if id, err := ParseID(base.String()); err != nil || id != base {
		t.Errorf("ParseID: %v, %v", id, err)
	}
}

func TestDump(t *testing.T) {
	s, l := sample()
	s.CreatedNS = 1700000000e9
	file := encode(t, l, s)
	file[mustInfo(t, l, file).Table[3].Offset] ^= 1
	d, err := reader(file).Inspect()
	if err != nil {
		t.Fatal(err)
	}
	var text, js bytes.Buffer
	if err := errors.Join(d.WriteText(&text), d.WriteJSON(&js)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"verdict   segment: corrupt: raw of layer 1", "tokens    [10, 37)", "created   2023-11-14T22:13:20Z",
		"compressed     1        7", "WRONG"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("dump lacks %q:\n%s", want, text.String())
		}
	}
	if strings.Count(text.String(), "WRONG") != 1 || strings.Contains(text.String(), "of it") {
		t.Errorf("dump:\n%s", text.String())
	}
	var back Dump
	if err := json.Unmarshal(js.Bytes(), &back); err != nil || !cmp.Equal(*d, back) {
		t.Errorf("JSON does not come back: %v\n%s", err, cmp.Diff(*d, back))
	}
	if d, err := reader(file[:40]).Inspect(); err != nil || !strings.Contains(d.Verdict, "torn") {
		t.Errorf("dump of a stump: %+v, %v", d, err)
	}
}

// FuzzDecode: whatever the bytes are, with right checksums or not, there is a
// verdict and no panic, and what is accepted encodes to the same bytes.
func FuzzDecode(f *testing.F) {
	s, l := sample()
	file := encode(f, l, s)
	f.Add(file, true)
	f.Add(file[:200], false)
	f.Add(encode(f, l, makeSegment(rand.New(rand.NewPCG(3, 4)), l, [32]byte{7}, ID{}, 0, 3, []byte("x"))), true)
	f.Fuzz(func(t *testing.T, b []byte, fix bool) {
		if fix && len(b) > HeaderBytes+FooterBytes {
			seal(b)
		}
		r := reader(b)
		if d, err := r.Inspect(); err != nil {
			t.Fatalf("%v; %+v", err, d)
		}
		got, err := r.Decode(l, s.Identity)
		if err != nil {
			if !isVerdict(err) {
				t.Fatalf("no verdict: %v", err)
			}
			return
		}
		if again := encode(t, l, got); !bytes.Equal(again, b) {
			t.Fatal("accepted, but encodes to other bytes")
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	l := Layout{Vocab: 8192, Window: 128}
	for range 8 {
		l.Layers = append(l.Layers, Layer{Ratio: 4, RowBytes: 1024, IndexRowBytes: 64, ClosedBytes: 8192})
	}
	s := makeSegment(rand.New(rand.NewPCG(1, 1)), l, [32]byte{}, ID{}, 0, 2048, make([]byte, 9000))
	file := encode(b, l, s)
	in := mustInfo(b, l, file)
	b.SetBytes(int64(len(file)))
	for b.Loop() {
		if _, err := reader(file).Verify(in, &l); err != nil {
			b.Fatal(err)
		}
	}
}
