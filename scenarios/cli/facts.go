package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"time"

	"ds4/faults/proc"
	"ds4/reports"
	"ds4/runtime/client"
)

// factsTimeout bounds each question to the binary: it reads headers, not weights.
const factsTimeout = 20 * time.Second

// targetTimeout bounds the question to a server that runs already, which may be busy.
const targetTimeout = 5 * time.Second

// maxFactBytes bounds what is read of an answer.
const maxFactBytes = 1 << 20

// record describes the server for the results file: what it is, and what it says
// of itself. A server that does not say leaves gaps, and is no error: it may be
// an older one, or another program.
func (s server) record(ctx context.Context, model string, args []string) reports.Server {
	rec := reports.Server{Path: s.path, Target: s.target, Args: args}
	if s.foreign != nil {
		rec.Path, rec.Args = s.foreign.Command[0], append(slices.Clone(s.foreign.Command[1:]), args...)
	}
	if s.target != "" {
		askTarget(ctx, s.target, &rec)
	}
	if s.path == "" {
		return rec
	}
	rec.Version, rec.Commit = parseVersion(s.ask(ctx, "version"))
	question := []string{"model", "info", "--json"}
	if model != "" {
		question = append(question, "--model", model)
	}
	parseModel(s.ask(ctx, question...), &rec)
	return rec
}

// ask runs the binary and returns its standard output, nil if it fails.
func (s server) ask(ctx context.Context, args ...string) []byte {
	ctx, cancel := context.WithTimeout(ctx, factsTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, s.path, args...)
	cmd.Env = append(os.Environ(), s.env...)
	var out limitedBuffer
	cmd.Stdout = &out
	cmd.WaitDelay = time.Second
	if cmd.Run() != nil {
		return nil
	}
	return out.buf.Bytes()
}

// limitedBuffer keeps the first maxFactBytes and swallows the rest.
type limitedBuffer struct{ buf bytes.Buffer }

func (l *limitedBuffer) Write(p []byte) (int, error) {
	l.buf.Write(p[:min(len(p), maxFactBytes-l.buf.Len())])
	return len(p), nil
}

// parseVersion reads "ds4 0.1.0+2f6c1d0e8a11-dirty go1.26.8 linux/amd64".
func parseVersion(text []byte) (version, commit string) {
	words := strings.Fields(string(text))
	if len(words) < 2 || words[0] != "ds4" {
		return "", ""
	}
	_, commit, _ = strings.Cut(words[1], "+")
	return words[1], strings.TrimSuffix(commit, "-dirty")
}

// parseModel reads the answer of ds4 model info.
func parseModel(text []byte, rec *reports.Server) {
	var info struct {
		ID       string `json:"id"`
		Identity string `json:"identity"`
		Backend  string `json:"backend"`
	}
	if json.Unmarshal(text, &info) != nil {
		return
	}
	rec.Model, rec.Identity, rec.KernelSet = info.ID, info.Identity, info.Backend
}

// askTarget asks a server that runs already. One that is no ds4, or does not let us
// look, tells nothing.
func askTarget(ctx context.Context, target string, rec *reports.Server) {
	ctx, cancel := context.WithTimeout(ctx, targetTimeout)
	defer cancel()
	c, err := client.New(target)
	if err != nil {
		return
	}
	page, err := c.Metrics(ctx)
	if err != nil {
		return
	}
	for _, m := range page {
		if m.Name == "ds4_build_info" {
			rec.Version, rec.Model, rec.KernelSet = m.Labels["version"], m.Labels["model"], m.Labels["backend"]
			_, commit, _ := strings.Cut(rec.Version, "+")
			rec.Commit = strings.TrimSuffix(commit, "-dirty")
		}
	}
}

// The line in which a starting server names its model and the kernels it chose.
var modelLine = regexp.MustCompile(`model (\S+) \(.*\) backend=(\S+)`)

// learn completes the record from the log of a server that has started.
func learn(rec *reports.Server, log *proc.Log) {
	if log == nil {
		return
	}
	for _, line := range log.Since(0) {
		if m := modelLine.FindStringSubmatch(line.Text); m != nil {
			rec.Model, rec.KernelSet = m[1], m[2]
			return
		}
	}
}
