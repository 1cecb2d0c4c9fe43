package cli

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is the release. A build of a checkout adds its commit.
const version = "0.1.0"

// versionText is the release and, where the build knows it, the commit.
func versionText() string {
	text := version
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return text
	}
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision" && len(s.Value) >= 12:
			text += "+" + s.Value[:12]
		case s.Key == "vcs.modified" && s.Value == "true":
			text += "-dirty"
		}
	}
	return text
}

func (a *app) versionCommand() *cobra.Command {
	return a.command("version", "print the version", noArgs, nil, func(*cobra.Command, []string) error {
		_, err := fmt.Fprintf(a.Out, "ds4 %s %s %s/%s\n", versionText(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
		return err
	})
}
