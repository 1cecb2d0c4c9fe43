package config

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/pflag"
)

// FlagError turns an error of flag parsing into the words of this package:
// "unknown option: --foo", "missing value for --ctx", or a ValueError.
func FlagError(err error) error {
	var unknown *pflag.NotExistError
	if errors.As(err, &unknown) {
		if cluster := unknown.GetSpecifiedShortnames(); cluster != "" {
			return fmt.Errorf("unknown option: -%s", clip(cluster))
		}
		return fmt.Errorf("unknown option: --%s", clip(unknown.GetSpecifiedName()))
	}
	var missing *pflag.ValueRequiredError
	if errors.As(err, &missing) {
		return fmt.Errorf("missing value for --%s", missing.GetFlag().Name)
	}
	var invalid *pflag.InvalidValueError
	if errors.As(err, &invalid) {
		return &ValueError{
			Setting: invalid.GetFlag().Name,
			Text:    invalid.GetValue(),
			Origin:  Origin{LayerFlag, "--" + invalid.GetFlag().Name},
			Err:     invalid.Unwrap(),
		}
	}
	var syntax *pflag.InvalidSyntaxError
	if errors.As(err, &syntax) {
		return fmt.Errorf("unknown option: %s", clip(syntax.GetSpecifiedFlag()))
	}
	return errors.New(strings.TrimPrefix(err.Error(), "pflag: "))
}
