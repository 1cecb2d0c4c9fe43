package cli

import (
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"ds4/scenarios"
)

// foreignFlags say how to start and to ask a server that is not ds4.
type foreignFlags struct {
	command string // --server-command
	file    string // --server-file
	api     string // --api
}

func (f *foreignFlags) addFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.command, "server-command", "", "`command` that starts another server than ds4; $PORT and $KV in it are a free port and an empty directory")
	cmd.Flags().StringVar(&f.file, "server-file", "", "`file` that says the same in YAML: command, ready, port, kv_dir, api, env")
	cmd.Flags().StringVar(&f.api, "api", "", "how the server of --server-command or --target is asked: chat (default) or completions")
}

// load returns the server that the flags describe, nil if they describe none.
func (f *foreignFlags) load(cmd *cobra.Command, srv *serverFlags) (*scenarios.Foreign, error) {
	n := 0
	for _, s := range []string{f.command, f.file, srv.path, srv.target} {
		if s != "" {
			n++
		}
	}
	switch {
	case n > 1:
		return nil, usagef(cmd, "--server, --server-command, --server-file and --target exclude each other")
	case f.api != "" && !slices.Contains(scenarios.APIs(), f.api):
		return nil, usagef(cmd, "--api %q is not one of: chat, completions", f.api)
	case f.api != "" && f.command == "" && srv.target == "":
		return nil, usagef(cmd, "--api goes with --server-command or --target; a file says it itself")
	case f.file != "":
		desc, err := scenarios.LoadForeign(f.file)
		if err != nil {
			return nil, badFile(fmt.Errorf("--server-file: %w", err))
		}
		return desc, nil
	case f.command == "":
		return nil, nil
	}
	words, err := scenarios.SplitCommand(f.command)
	if err != nil {
		return nil, usagef(cmd, "--server-command: %v", err)
	}
	desc := &scenarios.Foreign{Command: words, API: f.api}
	if err := desc.Check(); err != nil {
		return nil, usagef(cmd, "--server-command: %v", err)
	}
	return desc, nil
}

// rerun is the part of a rerun line that names the server.
func (f *foreignFlags) rerun() string {
	line := ""
	for _, flag := range []struct{ name, value string }{
		{"--server-command", f.command}, {"--server-file", f.file}, {"--api", f.api},
	} {
		if flag.value != "" {
			line += " " + flag.name + " " + shellWord(flag.value)
		}
	}
	return line
}

// needsDS4 says whether one of the scenarios is to be run against ds4.
func needsDS4(list []chosen) bool {
	return slices.ContainsFunc(list, func(c chosen) bool { return len(c.scenario.Server.Command) == 0 })
}
