package segment

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// Dump is what `ds4 kv dump` shows of a file. It never holds text or tokens:
// those are the user's conversation.
type Dump struct {
	Version   int           `json:"version"`
	ID        string        `json:"id,omitempty"` // that the text hashes to; empty if the file is not intact
	Identity  string        `json:"identity"`
	Parent    string        `json:"parent,omitempty"`
	From      int           `json:"from"`
	To        int           `json:"to"`
	FileBytes int64         `json:"file_bytes"`
	Created   time.Time     `json:"created"`
	Verdict   string        `json:"verdict"` // ok, or what is wrong
	Sections  []DumpSection `json:"sections,omitempty"`
}

// DumpSection is one row of the table.
type DumpSection struct {
	Kind   string `json:"kind"`
	Layer  int    `json:"layer"`
	Rows   int    `json:"rows"`
	Offset int64  `json:"offset"`
	Bytes  int64  `json:"bytes"`
	CRC32C string `json:"crc32c"`   // that the table says
	Found  string `json:"computed"` // that the bytes have
	OK     bool   `json:"ok"`       // they are the same
}

// Inspect reads as much of a file as makes sense. The error is about reading;
// what is wrong with the file is in Verdict.
func (r Reader) Inspect() (*Dump, error) {
	d := &Dump{Version: Version, Verdict: "ok"}
	h, err := r.Header()
	if err != nil {
		return d, d.judge(err)
	}
	d.Identity = fmt.Sprintf("%x", h.Identity)
	if !h.Parent.IsZero() {
		d.Parent = h.Parent.String()
	}
	d.From, d.To, d.FileBytes, d.Created = h.From, h.To, h.FileBytes, time.Unix(0, h.CreatedNS).UTC()
	in, err := r.Info(h, nil)
	if err != nil {
		return d, d.judge(err)
	}
	for _, s := range in.Table {
		sum, err := r.sum(s)
		if err != nil {
			return d, d.judge(err)
		}
		d.Sections = append(d.Sections, DumpSection{Kind: s.Kind.String(), Layer: s.Layer, Rows: s.Rows,
			Offset: s.Offset, Bytes: s.Bytes, CRC32C: fmt.Sprintf("%08x", s.CRC), Found: fmt.Sprintf("%08x", sum), OK: sum == s.CRC})
	}
	id, err := r.Verify(in, nil)
	if err != nil {
		return d, d.judge(err)
	}
	d.ID = id.String()
	return d, nil
}

// judge records an error about the contents and passes on the others.
func (d *Dump) judge(err error) error {
	if !isVerdict(err) {
		return err
	}
	d.Verdict = err.Error()
	return nil
}

func isVerdict(err error) bool {
	for _, e := range []error{ErrTorn, ErrCorrupt, ErrVersion, ErrIdentity, ErrLayout, ErrLimit} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// sum computes one section's checksum without holding the section.
func (r Reader) sum(s Section) (uint32, error) {
	buf := make([]byte, min(s.Bytes, verifyBytes))
	var sum uint32
	for at := int64(0); at < s.Bytes; {
		b := buf[:min(int64(len(buf)), s.Bytes-at)]
		if err := r.readAt(b, s.Offset+at); err != nil {
			return 0, err
		}
		sum = AddChecksum(sum, b)
		at += int64(len(b))
	}
	return sum, nil
}

// WriteText prints the dump for people.
func (d *Dump) WriteText(w io.Writer) error {
	p := &printer{w: w}
	p.f("verdict   %s\n", d.Verdict)
	if d.ID != "" {
		p.f("id        %s\n", d.ID)
	}
	if d.Identity != "" {
		parent := d.Parent
		if parent == "" {
			parent = "none"
		}
		p.f("parent    %s\nidentity  %s\ntokens    [%d, %d)\nbytes     %d\ncreated   %s\n",
			parent, d.Identity, d.From, d.To, d.FileBytes, d.Created.Format(time.RFC3339Nano))
	}
	if len(d.Sections) > 0 {
		p.f("\n%-10s %5s %8s %12s %12s  %-8s  %-8s  %s\n", "section", "layer", "rows", "offset", "bytes", "crc32c", "computed", "verdict")
	}
	for _, s := range d.Sections {
		verdict := "ok"
		if !s.OK {
			verdict = "WRONG"
		}
		p.f("%-10s %5d %8d %12d %12d  %-8s  %-8s  %s\n", s.Kind, s.Layer, s.Rows, s.Offset, s.Bytes, s.CRC32C, s.Found, verdict)
	}
	return p.err
}

// WriteJSON prints the dump as one JSON object.
func (d *Dump) WriteJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(d)
}

// printer keeps the first error of several writes.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) f(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format, args...)
	}
}
