// Package metal is the device layer: the engine encodes named kernels into
// command buffers and never knows which driver runs them.
//
// Drivers: metal/cpu (default everywhere), metal/fault (wraps any driver and
// forces errors). The shapes follow Apple's Metal, so that a forced error takes
// the same road on a machine without a GPU as a real one does on a Mac.
//
// The package promises: after the first CommandError a Device is poisoned, and
// every later Commit fails with ErrPoisoned until Rebuild. It does not retry and
// does not decide; History (policy.go) says what a caller should do about an error.
package metal

import (
	"context"
	"time"
)

// Size is a three-dimensional extent, in threadgroups or in threads.
type Size struct{ X, Y, Z uint32 }

// Count is the number of cells in the extent. A zero dimension counts as one.
func (s Size) Count() int {
	return int(max(s.X, 1)) * int(max(s.Y, 1)) * int(max(s.Z, 1))
}

// Binding names a range of a buffer as one argument of a kernel.
type Binding struct {
	Buffer Buffer
	Offset uint64 // bytes from the start of the buffer
}

// Level says how much Rebuild throws away.
type Level int

const (
	// RebuildQueue makes a new queue and new pipelines on the same device (action C).
	RebuildQueue Level = iota + 1
	// RebuildDevice makes a new device and wraps mapped memory again (action D).
	RebuildDevice
)

// Status is the state of a command buffer, with Metal's own numbers.
type Status int

const (
	StatusNotEnqueued Status = iota
	StatusEnqueued
	StatusCommitted
	StatusScheduled
	StatusCompleted
	StatusError
)

// Device runs command buffers. Methods may be called from any goroutine;
// command buffers of one device execute in the order of their Commit.
type Device interface {
	// Name is the backend's name as it appears in error messages ("cpu").
	Name() string
	// Generation grows with every Rebuild. Pipelines and command buffers of an
	// older generation return ErrStale.
	Generation() uint64
	// Pipeline looks a kernel up by name. Unknown names are ErrUnknownKernel.
	Pipeline(kernel string) (Pipeline, error)
	// NewBuffer allocates n zeroed bytes outside the Go heap where it can;
	// ErrOutOfMemory if it cannot.
	NewBuffer(n uint64, label string) (Buffer, error)
	// WrapBytes makes a buffer of mem without copying. The caller keeps mem
	// alive and unchanged until Release.
	WrapBytes(mem []byte, label string) (Buffer, error)
	// NewCommandBuffer starts recording. label names the work in error messages:
	// CommandError prints "Metal <label> failed: ...".
	NewCommandBuffer(label string) (CommandBuffer, error)
	// Rebuild clears the poison. Everything made before it is stale, except
	// buffers, whose bytes survive (weights and committed rows live there).
	Rebuild(Level) error
	Close() error
}

// Weights is a matrix, or a stack of Count matrices, as a model file holds it.
type Weights struct {
	Data              []byte
	Type              uint32 // quant type
	Rows, Cols, Count int
	Int8              bool // products take int8 activations
}

// Packer is a Device whose matrix products are faster on weights in a layout of
// its own. Kernels take such a buffer in place of the wrapped weights.
type Packer interface {
	// PackWeights copies w into a buffer in that layout. It is nil, without an
	// error, if the device has no layout for the type.
	PackWeights(w Weights, label string) (Buffer, error)
}

// Pipeline is a compiled kernel.
type Pipeline interface {
	Kernel() string
}

// Buffer is memory that kernels read and write.
type Buffer interface {
	// Bytes is the buffer's memory. It must not be touched between Commit and
	// the return of Wait of a command buffer that binds it.
	Bytes() []byte
	Len() uint64
	Label() string
	Release()
}

// CommandBuffer records dispatches and runs them once. It is used by one
// goroutine at a time.
type CommandBuffer interface {
	// Dispatch records one kernel over a grid of threadgroups. args is the
	// kernel's argument struct (see ArgBytes); args and bufs are copied.
	Dispatch(p Pipeline, groups Size, args []byte, bufs ...Binding)
	// Marker names the operation that follows, for error reports.
	Marker(op string)
	// Commit hands the recorded work to the device. It can be called once.
	Commit() error
	// Wait blocks until the work has ended: nil, a *CommandError, or the error
	// of ctx (the work may then still be running: treat it as a hang).
	Wait(ctx context.Context) error
	Status() Status
	// GPUTime is how long the device executed, valid after Wait.
	GPUTime() time.Duration
	// Release hands the object back for reuse. It must not be used afterwards.
	Release()
}

// Scope says on whose behalf the next command buffers run. The fault driver
// matches its rules against it; other drivers ignore it.
type Scope struct {
	Phase  string // "prefill", "decode", "canary"
	Source string // where the session's state came from: "cold", "memory", "disk"
	Chunk  int    // 1-based number of the prefill chunk within the request
	Range  string // hex key of the context range
	Entry  string // hex id of the last restored segment, "" if none
}

// SetScope tells d, if it cares, on whose behalf the next command buffers run.
func SetScope(d Device, s Scope) {
	if sd, ok := d.(interface{ SetScope(Scope) }); ok {
		sd.SetScope(s)
	}
}
