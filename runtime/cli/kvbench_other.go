//go:build !linux

package cli

import "errors"

// dropPageCache is not possible here.
func dropPageCache(string) error { return errors.ErrUnsupported }
