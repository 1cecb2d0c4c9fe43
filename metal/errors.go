package metal

import (
	"errors"
	"fmt"
)

var (
	// ErrPoisoned wraps the first CommandError of a device: nothing is executed
	// any more until Rebuild.
	ErrPoisoned = errors.New("metal: device is poisoned by an earlier error")
	// ErrStale is returned for pipelines and command buffers that were made
	// before the last Rebuild.
	ErrStale = errors.New("metal: object belongs to an older generation of the device")
	// ErrUnknownKernel is returned by Pipeline for a name that no kernel has.
	ErrUnknownKernel = errors.New("metal: unknown kernel")
	// ErrOutOfMemory is returned when a buffer cannot be allocated.
	ErrOutOfMemory = errors.New("metal: out of memory")
)

// Code is an MTLCommandBufferError code.
type Code int

// MTLCommandBufferError codes, with Apple's numbers.
const (
	CodeNone            Code = 0
	CodeInternal        Code = 1
	CodeTimeout         Code = 2
	CodePageFault       Code = 3
	CodeAccessRevoked   Code = 4
	CodeNotPermitted    Code = 7
	CodeOutOfMemory     Code = 8
	CodeInvalidResource Code = 9
	CodeMemoryless      Code = 10
	CodeDeviceRemoved   Code = 11
	CodeStackOverflow   Code = 12
)

// CommandError is the failure of one command buffer.
type CommandError struct {
	Label      string // label of the failed command buffer
	LastOp     string // last Marker before the failure, if known
	Seq        uint64 // number of the command buffer on its device
	Generation uint64
	Domain     string // NSError domain, "MTLCommandBufferErrorDomain"
	Code       Code
	IOGPU      uint32 // private callback status parsed from Message, 0 if none
	Message    string // localizedDescription, verbatim
	Fatal      bool   // the queue is dead: only a new process helps
}

// Error is the line that users of the original server know.
func (e *CommandError) Error() string {
	return fmt.Sprintf("Metal %s failed: %s", e.Label, e.Message)
}
