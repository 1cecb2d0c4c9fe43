package engine

import "errors"

var (
	// ErrContextFull is wrapped when tokens do not fit a session's context.
	ErrContextFull = errors.New("engine: context is full")
	// ErrBatch is wrapped when a batch breaks a rule of Forward.
	ErrBatch = errors.New("engine: bad batch")
	// ErrPoint is wrapped when a session cannot be rewound to a point.
	ErrPoint = errors.New("engine: the point is not part of the session's history")
	// ErrExport is wrapped when a session's state is not fit to be kept.
	ErrExport = errors.New("engine: state that cannot be exported")
	// ErrRestore is wrapped when a restored state contradicts itself.
	ErrRestore = errors.New("engine: bad restored state")
	// ErrBusy is wrapped when an abandoned command buffer is still running.
	ErrBusy = errors.New("engine: the device is still busy with abandoned work")
)
