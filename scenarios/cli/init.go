package cli

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/template"

	"github.com/spf13/cobra"

	"ds4/scenarios"
)

// What init writes.
var (
	//go:embed templates/scenario.yaml
	scenarioTemplate string
	//go:embed templates/github.yml
	githubTemplate string
	//go:embed templates/gitlab.yml
	gitlabTemplate string
)

// The systems that init writes a job for.
const (
	ciGitHub = "github"
	ciGitLab = "gitlab"
)

type initFlags struct {
	command string // --server-command
	ci      string // --ci
}

func newInit() *cobra.Command {
	var f initFlags
	cmd := &cobra.Command{
		Use:   "init [DIR]",
		Short: "Write a first scenario, and a CI job",
		Long: `Writes a scenario to begin with into DIR (default ds4bench), with the schema that
lets an editor complete and check it, and with --ci a job that runs it. The job of
GitLab is to be included from .gitlab-ci.yml.

Nothing is overwritten: if one of the files exists, none is written.`,
		Example: `  ds4bench init
  ds4bench init --ci github
  ds4bench init recovery/ --ci gitlab --server-command 'llama-server --port $PORT -m m.gguf --slot-save-path $KV'`,
		Args: atMostOne,
		RunE: func(cmd *cobra.Command, args []string) error { return f.execute(cmd, args) },
	}
	cmd.Flags().StringVar(&f.command, "server-command", "", "`command` that starts a server other than ds4; $PORT and $KV in it are a free port and an empty directory")
	cmd.Flags().StringVar(&f.ci, "ci", "", "also write a job for `SYSTEM`: github or gitlab")
	return cmd
}

func (f *initFlags) execute(cmd *cobra.Command, args []string) error {
	dir := "ds4bench"
	if len(args) > 0 {
		dir = filepath.Clean(args[0])
	}
	files, err := f.files(cmd, dir)
	if err != nil {
		return err
	}
	names := make([]string, 0, len(files))
	for name := range files {
		switch _, err := os.Lstat(name); {
		case err == nil:
			return badFile(fmt.Errorf("init: %s exists; nothing was written", name))
		case !errors.Is(err, fs.ErrNotExist): // part of the way is a file, perhaps this very program
			return badFile(fmt.Errorf("init: %w; nothing was written: name another folder", err))
		}
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return badFile(fmt.Errorf("init: %w", err))
		}
		if err := os.WriteFile(name, files[name], 0o644); err != nil {
			return badFile(fmt.Errorf("init: %w", err))
		}
		fmt.Fprintf(cmd.OutOrStdout(), "wrote %s\n", name)
	}
	fmt.Fprintf(cmd.OutOrStdout(), "\nds4bench run %s\n", shellWord(dir))
	return nil
}

// files are what is to be written, by name.
func (f *initFlags) files(cmd *cobra.Command, dir string) (map[string][]byte, error) {
	serverText := "  args: {ctx: 4096, kv-disk-dir: $KV}"
	if f.command != "" {
		words, err := scenarios.SplitCommand(f.command)
		if err == nil {
			err = (&scenarios.Foreign{Command: words}).Check()
		}
		if err != nil {
			return nil, usagef(cmd, "--server-command: %v", err)
		}
		quoted, err := json.Marshal(words) // which is YAML, too
		if err != nil {
			return nil, infrastructure(err)
		}
		serverText = "  command: " + string(quoted)
	}
	schema, err := scenarios.SchemaJSON()
	if err != nil {
		return nil, infrastructure(err)
	}
	wanted := map[string]string{filepath.Join(dir, "kill-and-ask-again.yaml"): scenarioTemplate}
	switch f.ci {
	case "":
	case ciGitHub:
		wanted[filepath.Join(".github", "workflows", "ds4bench.yml")] = githubTemplate
	case ciGitLab:
		wanted["ds4bench.gitlab-ci.yml"] = gitlabTemplate
	default:
		return nil, usagef(cmd, "--ci %q is not one of: %s, %s", f.ci, ciGitHub, ciGitLab)
	}
	files := map[string][]byte{filepath.Join(dir, "scenario.schema.json"): schema}
	for name, text := range wanted {
		// The other braces are those of GitHub's own language.
		text = strings.ReplaceAll(text, "${{", "{{`${{`}}")
		t, err := template.New(name).Parse(text)
		if err != nil {
			return nil, infrastructure(err)
		}
		var out bytes.Buffer
		if err := t.Execute(&out, struct{ Dir, Server string }{shellWord(filepath.ToSlash(dir)) + "/", serverText}); err != nil {
			return nil, infrastructure(err)
		}
		files[name] = out.Bytes()
	}
	return files, nil
}
