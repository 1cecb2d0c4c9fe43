package kvstore

import (
	"path"
	"strconv"
	"strings"
	"time"

	"ds4/runtime/failpoint"
	"ds4/runtime/kvstore/segment"
)

// Fault points of this package; the catalogue says what each one is about.
var (
	ptOpen         = failpoint.New("kv.open")
	ptScan         = failpoint.New("kv.scan")
	ptHeaderRead   = failpoint.New("kv.header.read")
	ptTextRead     = failpoint.New("kv.text.read")
	ptPayloadRead  = failpoint.New("kv.payload.read")
	ptCorrupt      = failpoint.New("kv.payload.corrupt")
	ptWriteHeader  = failpoint.New("kv.write.header")
	ptWritePayload = failpoint.New("kv.write.payload")
	ptFsync        = failpoint.New("kv.fsync")
	ptRename       = failpoint.New("kv.rename")
	ptDirsync      = failpoint.New("kv.dirsync")
	ptUnlink       = failpoint.New("kv.unlink")
	ptTouch        = failpoint.New("kv.touch")
	ptJournal      = failpoint.New("kv.journal")
	ptInflight     = failpoint.New("kv.inflight")
	ptQuarantine   = failpoint.New("kv.quarantine")
)

// folder knows the names under the store's directory.
type folder string

const segmentExt = ".kv"

func (d folder) lock() string          { return path.Join(string(d), "LOCK") }
func (d folder) journal() string       { return path.Join(string(d), "journal") }
func (d folder) calls() string         { return path.Join(string(d), callsName) }
func (d folder) segments() string      { return path.Join(string(d), "segments") }
func (d folder) tmp() string           { return path.Join(string(d), "tmp") }
func (d folder) inflight() string      { return path.Join(string(d), "inflight") }
func (d folder) quarantine() string    { return path.Join(string(d), "quarantine") }
func (d folder) shard(x string) string { return path.Join(d.segments(), x) }

// callsName is the file that remembers tool calls (package replay).
const callsName = "toolcalls"

// segment returns where the segment lives.
func (d folder) segment(id segment.ID) string {
	s := id.String()
	return path.Join(d.shard(s[:2]), s+segmentExt)
}

// temp returns where the segment is written.
func (d folder) temp(id segment.ID, pid int, n uint64) string {
	return path.Join(d.tmp(), id.String()+"."+strconv.Itoa(pid)+"."+strconv.FormatUint(n, 10))
}

// quarantined returns where a segment goes that is not trusted any more.
func (d folder) quarantined(id segment.ID, at time.Time, why string) string {
	return path.Join(d.quarantine(), id.String()+"."+strconv.FormatInt(at.Unix(), 10)+"."+why+segmentExt)
}

// maxWhy bounds the reason in a name of the quarantine.
const maxWhy = 32

// parseQuarantined returns the time in a quarantined file's base name.
func parseQuarantined(base string) (unix int64, ok bool) {
	f := strings.Split(base, ".")
	if len(f) != 4 || len(f[2]) > maxWhy {
		return 0, false
	}
	if _, err := segment.ParseID(f[0]); err != nil {
		return 0, false
	}
	unix, err := strconv.ParseInt(f[1], 10, 64)
	return unix, err == nil
}

// isShard reports whether a name is a folder of segments.
func isShard(base string) bool {
	return len(base) == 2 && strings.Trim(base, "0123456789abcdef") == ""
}

// parseSegmentName returns the id in a file name that lies in the right shard.
func parseSegmentName(shard, base string) (segment.ID, bool) {
	hex, ok := strings.CutSuffix(base, segmentExt)
	if !ok || !strings.HasPrefix(hex, shard) {
		return segment.ID{}, false
	}
	id, err := segment.ParseID(hex)
	return id, err == nil && !id.IsZero()
}

const mib = 1 << 20

// inMiB is for log lines.
func inMiB(n int64) float64 { return float64(n) / mib }

// millis is for log lines.
func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
