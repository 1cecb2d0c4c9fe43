package failpoint

import "sort"

// Info describes one point of the catalogue.
type Info struct {
	Name  string
	Owner string // package that executes it
	// Data says that the point sees bytes: flip, zero and short apply to it.
	Data bool
	// Device says that metal/fault executes the rule: Arm refuses it, and the
	// action metal(...) applies to it only.
	Device bool
	// Clock says that the point is a clock: the action skew(D) applies to it, and
	// no other.
	Clock bool
	Doc   string
}

// catalogue lists every point of the program. It is here, and not spread over
// the packages that own the points, so that a scenario can be checked by a
// program that links none of them.
var catalogue = []Info{
	{Name: "kv.open", Owner: "runtime/kvstore", Doc: "the cache directory is created and opened, at start"},
	{Name: "kv.scan", Owner: "runtime/kvstore", Doc: "a folder of segments is listed, at start"},
	{Name: "kv.header.read", Owner: "runtime/kvstore", Data: true, Doc: "header and section table of a segment are read"},
	{Name: "kv.text.read", Owner: "runtime/kvstore", Data: true, Doc: "text and tokens of a segment are read in a restore"},
	{Name: "kv.payload.read", Owner: "runtime/kvstore", Data: true, Doc: "a piece of a section is read in a restore; offsets count in the file"},
	{Name: "kv.payload.corrupt", Owner: "runtime/kvstore", Data: true, Doc: "any bytes of a segment, header included, were just read; offsets count in the file"},
	{Name: "kv.write.header", Owner: "runtime/kvstore", Doc: "header and table of a new segment are about to be written"},
	{Name: "kv.write.payload", Owner: "runtime/kvstore", Doc: "the next bytes of a new segment are about to be written; after=BYTES counts the file's bytes written so far"},
	{Name: "kv.fsync", Owner: "runtime/kvstore", Doc: "a new segment is about to be synced"},
	{Name: "kv.rename", Owner: "runtime/kvstore", Doc: "a new segment is about to get its name"},
	{Name: "kv.dirsync", Owner: "runtime/kvstore", Doc: "the folder of a new segment is about to be synced; the name is already there"},
	{Name: "kv.unlink", Owner: "runtime/kvstore", Doc: "a file of the cache is about to be removed"},
	{Name: "kv.touch", Owner: "runtime/kvstore", Doc: "a hit is about to be noted in the journal"},
	{Name: "kv.journal", Owner: "runtime/kvstore", Doc: "a strike or verdict is about to be written to the journal, or the journal is rewritten"},
	{Name: "kv.inflight", Owner: "runtime/kvstore", Doc: "the marker of a restore is about to be written"},
	{Name: "kv.quarantine", Owner: "runtime/kvstore", Doc: "a segment is about to be moved to quarantine"},
	{Name: "prefill.begin", Owner: "runtime/scheduler", Doc: "a prompt is about to be evaluated"},
	{Name: "prefill.chunk", Owner: "metal/fault", Device: true, Doc: "a chunk of a prompt is evaluated; n=K picks the K-th chunk of a prompt"},
	{Name: "prefill.embed", Owner: "metal/fault", Device: true, Doc: "the embedding of a chunk's tokens is evaluated"},
	{Name: "decode.step", Owner: "metal/fault", Device: true, Doc: "one token is decoded"},
	{Name: "device.lost", Owner: "metal/fault", Device: true, Doc: "any work is given to the device"},
	{Name: "device.alloc", Owner: "metal/fault", Device: true, Doc: "device memory is allocated"},
	{Name: "session.reset", Owner: "runtime/scheduler", Doc: "a session is emptied"},
	{Name: "clock.jump", Owner: "runtime/cli", Clock: true, Doc: "the time is looked at, by store, scheduler or server; log stamps are not touched"},
	{Name: "shutdown.save", Owner: "runtime/scheduler", Doc: "a session is about to be saved at shutdown"},
}

// Catalogue returns every point that a rule may name, sorted by name.
func Catalogue() []Info {
	list := append([]Info(nil), catalogue...)
	sort.Slice(list, func(i, j int) bool { return list[i].Name < list[j].Name })
	return list
}

// Lookup returns the point with this name.
func Lookup(name string) (Info, bool) {
	for _, in := range catalogue {
		if in.Name == name {
			return in, true
		}
	}
	return Info{}, false
}

func knownPoints() []string {
	var names []string
	for _, in := range Catalogue() {
		names = append(names, in.Name)
	}
	return names
}
