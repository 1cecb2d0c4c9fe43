package syscalls

import "slices"

// The operations: what rules call the system calls.
const (
	OpOpen     = "open"     // without O_CREAT
	OpCreate   = "create"   // with O_CREAT
	OpRead     = "read"     // from a file
	OpWrite    = "write"    // to a file, by whatever call
	OpFsync    = "fsync"    // of a file or a folder, by whatever call
	OpTruncate = "truncate" // also to a greater length
	OpAllocate = "allocate" // fallocate
	OpRename   = "rename"
	OpLink     = "link" // hard and symbolic
	OpUnlink   = "unlink"
	OpMkdir    = "mkdir" // also other special files
	OpRmdir    = "rmdir"
	OpReadDir  = "readdir"
)

// Operations that are for the filter alone: no rule is about them.
const (
	opMap  = "map"  // mmap that shares a file for writing
	opRing = "ring" // io_uring_setup
)

// Ops lists the operations that rules may be about.
func Ops() []string {
	return []string{OpOpen, OpCreate, OpRead, OpWrite, OpFsync, OpTruncate, OpAllocate, OpRename, OpLink,
		OpUnlink, OpMkdir, OpRmdir, OpReadDir}
}

// none stands for an argument that a call does not have, and for a number that a
// processor's table does not have.
const none = -1

// place says which arguments name a file: a descriptor, a path, or a path that
// counts from a descriptor. The numbers are indices of arguments.
type place struct{ fd, path int }

var (
	nowhere = place{none, none}
	fd0     = place{0, none}
	path0   = place{none, 0}
	path1   = place{none, 1}
	at0     = place{0, 1} // dirfd, path
)

// call describes one system call.
type call struct {
	name         string
	op           string
	amd64, arm64 int
	at           place // what it acts on; of a rename the new name
	from         place // the old name of a rename or link, or where data comes from
}

// calls is the table of everything that the filter may watch. Numbers do not
// depend on the system that this is built for, so that one test checks both.
var calls = []call{
	{"read", OpRead, 0, 63, fd0, nowhere},
	{"pread64", OpRead, 17, 67, fd0, nowhere},
	{"readv", OpRead, 19, 65, fd0, nowhere},
	{"preadv", OpRead, 295, 69, fd0, nowhere},
	{"preadv2", OpRead, 327, 286, fd0, nowhere},

	{"write", OpWrite, 1, 64, fd0, nowhere},
	{"pwrite64", OpWrite, 18, 68, fd0, nowhere},
	{"writev", OpWrite, 20, 66, fd0, nowhere},
	{"pwritev", OpWrite, 296, 70, fd0, nowhere},
	{"pwritev2", OpWrite, 328, 287, fd0, nowhere},
	{"sendfile", OpWrite, 40, 71, fd0, place{1, none}},
	{"copy_file_range", OpWrite, 326, 285, place{2, none}, fd0},
	{"splice", OpWrite, 275, 76, place{2, none}, fd0},

	{"fsync", OpFsync, 74, 82, fd0, nowhere},
	{"fdatasync", OpFsync, 75, 83, fd0, nowhere},
	{"sync_file_range", OpFsync, 277, 84, fd0, nowhere},
	{"syncfs", OpFsync, 306, 267, fd0, nowhere},
	{"sync", OpFsync, 162, 81, nowhere, nowhere},

	{"truncate", OpTruncate, 76, 45, path0, nowhere},
	{"ftruncate", OpTruncate, 77, 46, fd0, nowhere},
	{"fallocate", OpAllocate, 285, 47, fd0, nowhere},

	{"rename", OpRename, 82, none, path1, path0},
	{"renameat", OpRename, 264, 38, place{2, 3}, at0},
	{"renameat2", OpRename, 316, 276, place{2, 3}, at0},
	{"link", OpLink, 86, none, path1, path0},
	{"linkat", OpLink, 265, 37, place{2, 3}, at0},
	{"symlink", OpLink, 88, none, path1, nowhere},
	{"symlinkat", OpLink, 266, 36, place{1, 2}, nowhere},

	{"unlink", OpUnlink, 87, none, path0, nowhere},
	{"unlinkat", OpUnlink, 263, 35, at0, nowhere}, // or rmdir, by its flags
	{"rmdir", OpRmdir, 84, none, path0, nowhere},
	{"mkdir", OpMkdir, 83, none, path0, nowhere},
	{"mkdirat", OpMkdir, 258, 34, at0, nowhere},
	{"mknod", OpMkdir, 133, none, path0, nowhere},
	{"mknodat", OpMkdir, 259, 33, at0, nowhere},

	{"open", OpOpen, 2, none, path0, nowhere}, // or create, by their flags
	{"openat", OpOpen, 257, 56, at0, nowhere},
	{"openat2", OpOpen, 437, 437, at0, nowhere},
	{"creat", OpCreate, 85, none, path0, nowhere},

	{"getdents", OpReadDir, 78, none, fd0, nowhere},
	{"getdents64", OpReadDir, 217, 61, fd0, nowhere},

	{"mmap", opMap, 9, 222, place{4, none}, nowhere},
	{"io_uring_setup", opRing, 425, 425, nowhere, nowhere},
}

// processor is what differs between processors.
type processor struct {
	name   string
	audit  uint32 // AUDIT_ARCH_*
	number func(*call) int
}

// processors lists those whose tables are known, by the names of the Go tools.
func processors() []processor {
	return []processor{
		{"amd64", 0xc000003e, func(c *call) int { return c.amd64 }},
		{"arm64", 0xc00000b7, func(c *call) int { return c.arm64 }},
	}
}

// processorOf finds a processor by its name.
func processorOf(name string) (processor, bool) {
	i := slices.IndexFunc(processors(), func(p processor) bool { return p.name == name })
	if i < 0 {
		return processor{}, false
	}
	return processors()[i], true
}

// watched lists the calls that some operation of a list may be made by. Those that
// nobody asked about are refused or reported: they are always in it.
func (p processor) watched(ops []string) []*call {
	want := append([]string{opMap, opRing}, ops...)
	var list []*call
	for i := range calls {
		c := &calls[i]
		if p.number(c) == none {
			continue
		}
		if slices.ContainsFunc(c.mayBe(), func(op string) bool { return slices.Contains(want, op) }) {
			list = append(list, c)
		}
	}
	return list
}

// mayBe lists the operations that a call may turn out to be.
func (c *call) mayBe() []string {
	switch {
	case c.op == OpOpen:
		return []string{OpOpen, OpCreate}
	case c.name == "unlinkat":
		return []string{OpUnlink, OpRmdir}
	}
	return []string{c.op}
}
