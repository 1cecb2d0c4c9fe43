package cli

import (
	"context"
	"errors"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

func (a *app) runCommand() *cobra.Command {
	var (
		s    localSettings
		text string
	)
	s.add()
	cmd := a.command("run [-p TEXT] [options]", "answer one prompt at the terminal", noArgs, &s.settings,
		func(cmd *cobra.Command, _ []string) error {
			prompt, err := a.promptText(text, cmd.Flags().Changed("prompt"))
			if err != nil {
				return err
			}
			return a.run(cmd.Context(), &s, prompt)
		})
	cmd.Long = `Answers one prompt. The answer goes to standard output; reasoning, progress of the
prefill and figures go to standard error, or nowhere with --quiet.`
	cmd.Example = `  ds4 run -p "What does strings.Cut do?"
  ds4 run -q --temp 0 <question.txt >answer.txt
  ds4 run -m FILE.gguf --think -p "Why is the sky blue?"`
	cmd.Flags().StringVarP(&text, "prompt", "p", "", "the user's `TEXT`; - or nothing reads standard input")
	cmd.Flags().BoolVarP(&s.quiet, "quiet", "q", false, "print the answer only")
	cmd.Flags().BoolVarP(&s.verbose, "verbose", "v", false, "print the log of the engine")
	return cmd
}

// promptText is the text of -p, or standard input less its last line end.
func (a *app) promptText(text string, given bool) (string, error) {
	switch {
	case given && text != "-":
	case !given && isTerminal(a.In):
		return "", badUsage("no prompt: give -p TEXT, or pipe a text in")
	default:
		var err error
		if text, err = readText(a.In, "standard input"); err != nil {
			return "", err
		}
		text = strings.TrimSuffix(strings.TrimSuffix(text, "\n"), "\r")
	}
	if text == "" {
		return "", badUsage("the prompt is empty")
	}
	return text, nil
}

// run answers one prompt. The first signal ends the answer and saves what the
// settings ask for; a second one ends the process.
func (a *app) run(ctx context.Context, s *localSettings, prompt string) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	d, err := a.newDialogue(ctx, s)
	switch {
	case interrupted(ctx, err):
		return &exitError{code: exitInterrupted}
	case err != nil:
		return err
	}
	err = d.ask(ctx, prompt)
	stop() // from here on a signal has its usual effect
	if interrupted(ctx, err) {
		err = &exitError{code: exitInterrupted}
	}
	return errors.Join(err, d.close())
}
