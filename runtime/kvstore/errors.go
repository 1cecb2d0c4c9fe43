package kvstore

import (
	"errors"
	"fmt"
)

var (
	// ErrOptions is returned by Open for options that cannot work.
	ErrOptions = errors.New("kvstore: bad options")
	// ErrUnavailable means that the store does nothing: its folder cannot be used,
	// recovery has not ended, or it was closed. Health has the reason.
	ErrUnavailable = errors.New("kvstore: not available")
	// ErrReadOnly means that this process may not write: another one holds the
	// lock, or the folder is write-protected.
	ErrReadOnly = errors.New("kvstore: read-only")
	// ErrInput means that Save got a segment that the layout does not allow.
	ErrInput = errors.New("kvstore: bad segment")
	// ErrNoParent means that the segment's parent is neither stored nor queued.
	ErrNoParent = errors.New("kvstore: parent is not stored")
	// ErrTooShort means that the prefix is below MinTokens.
	ErrTooShort = errors.New("kvstore: shorter than the minimum")
	// ErrBackoff means that a write failed a short time ago; try again later.
	ErrBackoff = errors.New("kvstore: backing off after a failed write")
	// ErrBusy means that the disk does not keep up: the operation waited as long as
	// it may and was given up.
	ErrBusy = errors.New("kvstore: disk is too slow")
	// ErrRefused means that this segment was convicted too often to be stored, is
	// being removed at the moment, or is there with other tokens of the same text.
	ErrRefused = errors.New("kvstore: segment refused")
	// ErrMiss means that nothing of the chain could be restored.
	ErrMiss = errors.New("kvstore: nothing restored")
	// ErrVanished is ErrMiss for a chain whose files are not there any more. No
	// file is bad: somebody has removed them.
	ErrVanished = fmt.Errorf("%w: the files are gone", ErrMiss)
	// ErrAbandoned means that the context ended before a restore did.
	ErrAbandoned = errors.New("kvstore: restore abandoned")
	// ErrLocked is returned by Purge while a server uses the folder.
	ErrLocked = errors.New("kvstore: folder is in use")
)
