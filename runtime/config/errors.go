package config

import "errors"

var (
	// ErrFile is wrapped by errors about the file of --config that concern no
	// single setting: it cannot be read, is too big, or is not a flat YAML mapping.
	ErrFile = errors.New("config: bad file")
	// ErrFaultsOff is returned when fault hooks are asked for in a process whose
	// environment does not allow them.
	ErrFaultsOff = errors.New("config: fault hooks need " + EnableFaultsEnv + "=1 in the environment")
)

// ValueError is a value that a setting cannot take.
type ValueError struct {
	Setting string
	Text    string // as written
	Origin  Origin
	Err     error // what is wrong and what is wanted
}

// Error names the place, the setting and the reason.
func (e *ValueError) Error() string {
	place := e.Origin.String()
	if e.Origin.Layer == LayerFile {
		place += ": " + e.Setting
	}
	return place + ": " + e.Err.Error()
}

// Unwrap returns the reason.
func (e *ValueError) Unwrap() error { return e.Err }
