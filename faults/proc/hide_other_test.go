//go:build !linux

package proc

import "errors"

func hide() (show func(), err error) { return nil, errors.ErrUnsupported }
