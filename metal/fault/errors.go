package fault

import "errors"

var (
	// ErrRule is wrapped by every error about a rule that cannot be parsed or
	// would not work as written.
	ErrRule = errors.New("fault: bad rule")
	// ErrInjected is wrapped by the errors of allocations, mappings and pipelines
	// that a rule made fail. Errors of command buffers do not say that they were
	// injected: they are *metal.CommandError, like real ones.
	ErrInjected = errors.New("injected fault")
)
