package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/peterh/liner"
	"github.com/spf13/cobra"

	"ds4/runtime/chat"
)

const (
	chatPrompt = "> "
	// maxLineBytes bounds one line of piped input.
	maxLineBytes = 1 << 20
)

const chatHelp = `/help               this text
/clear              forget the conversation, keep the system prompt
/think [MODE]       show or set thinking: none, high, max
/quit               end; so does Ctrl-D
Ctrl-C stops the answer. At the prompt, or a second time, it ends the chat.
`

func (a *app) chatCommand() *cobra.Command {
	var s localSettings
	s.add()
	cmd := a.command("chat [options]", "talk with a model at the terminal", noArgs, &s.settings,
		func(cmd *cobra.Command, _ []string) error { return a.chat(cmd.Context(), &s) })
	cmd.Long = `A conversation at the terminal. Answers go to standard output; reasoning, progress of
the prefill and figures go to standard error, or nowhere with --quiet. Input that is
no terminal is read line by line, each line a turn. Inside:

` + chatHelp
	cmd.Example = `  ds4 chat
  ds4 chat -m FILE.gguf --think --system "Answer in one sentence."
  ds4 chat --kv-disk-dir ~/.cache/ds4 --system "$(cat long.txt)"   # prefilled once, then restored`
	cmd.Flags().BoolVarP(&s.quiet, "quiet", "q", false, "print answers only")
	cmd.Flags().BoolVarP(&s.verbose, "verbose", "v", false, "print the log of the engine")
	return cmd
}

// errInterrupted is how a user leaves by Ctrl-C.
var errInterrupted = errors.New("interrupted")

// chat runs the conversation until the user leaves it.
func (a *app) chat(ctx context.Context, s *localSettings) error {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	defer signal.Stop(signals)
	d, err := a.newDialogue(ctx, s)
	if err != nil {
		return err
	}
	input := a.newInput()
	if !s.quiet {
		fmt.Fprintf(a.Err, "%s, context %d. /help lists the commands.\n", d.st.model.Name, s.model.Context)
	}
	err = d.loop(ctx, input, signals)
	input.close()
	if errors.Is(err, errInterrupted) {
		err = &exitError{code: exitInterrupted}
	}
	return errors.Join(err, d.close())
}

// loop reads turns and answers them.
func (d *dialogue) loop(ctx context.Context, input *input, signals <-chan os.Signal) error {
	for {
		line, err := input.next(signals)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case strings.TrimSpace(line) == "":
			continue
		case strings.HasPrefix(line, "/"):
			if quit := d.command(line); quit {
				return nil
			}
			continue
		}
		if err := d.answer(ctx, line, signals); err != nil {
			return err
		}
	}
}

// command carries out a line that starts with a slash.
func (d *dialogue) command(line string) (quit bool) {
	words := strings.Fields(line)
	switch words[0] {
	case "/quit", "/exit":
		return true
	case "/help":
		fmt.Fprint(d.Err, chatHelp)
	case "/clear":
		d.clear()
		fmt.Fprintln(d.Err, "the conversation is forgotten")
	case "/think":
		if len(words) > 1 {
			mode, err := chat.ParseMode(words[1])
			if err != nil {
				fmt.Fprintln(d.Err, err)
				return false
			}
			d.mode = mode
		}
		opt := chat.Options{Thinking: d.mode, ContextTokens: d.s.model.Context, MaxPrefix: d.st.maxPrefix}
		fmt.Fprintf(d.Err, "thinking: %s\n", opt.Effective())
	default:
		fmt.Fprintf(d.Err, "unknown command %s; /help lists them\n", words[0])
	}
	return false
}

// answer streams one answer. The first signal stops it, a second one ends the
// chat. An answer that fails is reported; the conversation goes on.
func (d *dialogue) answer(ctx context.Context, text string, signals <-chan os.Signal) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- d.ask(ctx, text) }()
	stopped := false
	for {
		select {
		case err := <-done:
			if again := drain(signals); again && stopped {
				return errInterrupted
			}
			switch {
			case interrupted(ctx, err):
				fmt.Fprintln(d.Err, "[stopped]")
			case err != nil:
				fmt.Fprintf(d.Err, "ds4: %v\n", err)
			}
			return nil
		case sig := <-signals:
			if stopped || sig == syscall.SIGTERM {
				cancel()
				<-done
				return errInterrupted
			}
			stopped = true
			cancel()
		}
	}
}

// drain takes the signals that have come already and reports whether there were any.
func drain(signals <-chan os.Signal) (any bool) {
	for {
		select {
		case <-signals:
			any = true
		default:
			return any
		}
	}
}

// input reads lines: with editing and history from a terminal, else plainly. One
// goroutine reads, so that a signal can be noticed meanwhile.
type input struct {
	read func() (string, error)
	end  func()
	ask  chan struct{}
	got  chan inputLine
}

type inputLine struct {
	text string
	err  error
}

func (a *app) newInput() *input {
	in := &input{ask: make(chan struct{}), got: make(chan inputLine, 1), end: func() {}}
	if a.In == io.Reader(os.Stdin) && isTerminal(a.In) && isTerminal(a.Out) {
		in.useTerminal()
	} else {
		in.read = boundedLines(a.In)
	}
	go in.serve()
	return in
}

// serve reads one line per question until close.
func (in *input) serve() {
	for range in.ask {
		text, err := in.read()
		in.got <- inputLine{text, err}
	}
}

// useTerminal edits lines on the terminal.
func (in *input) useTerminal() {
	editor := liner.NewLiner()
	editor.SetCtrlCAborts(true)
	editor.SetMultiLineMode(true)
	in.end = func() { _ = editor.Close() }
	in.read = func() (string, error) {
		text, err := editor.Prompt(chatPrompt)
		if errors.Is(err, liner.ErrPromptAborted) {
			return "", errInterrupted
		}
		if err == nil && strings.TrimSpace(text) != "" {
			editor.AppendHistory(text)
		}
		return text, err
	}
}

// boundedLines reads lines of any stream.
func boundedLines(r io.Reader) func() (string, error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLineBytes)
	return func() (string, error) {
		if lines.Scan() {
			return lines.Text(), nil
		}
		if err := lines.Err(); err != nil {
			return "", fmt.Errorf("read standard input: %w", err)
		}
		return "", io.EOF
	}
}

// next returns the next line, or errInterrupted when a signal comes first.
func (in *input) next(signals <-chan os.Signal) (string, error) {
	in.ask <- struct{}{}
	select {
	case l := <-in.got:
		return l.text, l.err
	case <-signals:
		return "", errInterrupted
	}
}

// close gives the terminal back. A read that still waits is left to the process's
// end: nothing can interrupt it.
func (in *input) close() {
	close(in.ask)
	in.end()
}
