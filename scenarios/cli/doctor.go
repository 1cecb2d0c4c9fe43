package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ds4/reports"
	"ds4/reports/table"
	"ds4/scenarios"
)

// probeTimeout bounds one probe of doctor. A build of the server is none.
const probeTimeout = 2 * time.Minute

// laneHost is the lane of what every lane needs.
const laneHost = "host"

// probe is one thing that doctor tries.
type probe struct {
	lane string // of scenarios, or laneHost
	part string
	// try does it, and returns what is worth knowing, or why it does not work.
	try func(ctx context.Context) (detail string, err error)
}

// finding is what came of a probe.
type finding struct {
	Lane   string  `json:"lane"`
	Part   string  `json:"part"`
	Works  bool    `json:"works"`
	Detail string  `json:"detail,omitempty"` // what was found, or why it does not work
	TookMS float64 `json:"took_ms"`
}

type doctorFlags struct {
	server  serverFlags
	foreign foreignFlags
	lanes   []string
	json    bool
}

func newDoctor() *cobra.Command {
	var f doctorFlags
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Try what this host allows, lane by lane, and say why not",
		Long: `Tries everything that scenarios need of this host, once, and prints what works
and what does not, and why: it starts the server under test and asks it, mounts a
small disk, bounds a process, cuts the power of an image. Nothing is left behind.

Exit code 0 means that the lanes that were asked for with --lane work, or without
it that servers can be started and asked (lane process); 3 that they do not.`,
		Example: `  ds4bench doctor
  ds4bench doctor --lane limits,root
  ds4bench doctor --json | jq 'select(.works | not)'
  ds4bench doctor --server-command 'llama-server --port $PORT -m m.gguf'`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.execute(cmd) },
	}
	f.server.addFlags(cmd)
	f.foreign.addFlags(cmd)
	cmd.Flags().StringSliceVar(&f.lanes, "lane", nil, "only these `lanes`, which must work: "+laneNames())
	cmd.Flags().BoolVar(&f.json, "json", false, "print a JSON object per line")
	return cmd
}

func (f *doctorFlags) execute(cmd *cobra.Command) error {
	for _, l := range f.lanes {
		if !slices.Contains(scenarios.Lanes(), scenarios.Lane(l)) {
			return usagef(cmd, "--lane %q is not one of: %s", l, laneNames())
		}
	}
	foreign, err := f.foreign.load(cmd, &f.server)
	if err != nil {
		return err
	}
	var found []finding
	for _, p := range f.probes(cmd, foreign) {
		if len(f.lanes) > 0 && p.lane != laneHost && !slices.Contains(f.lanes, p.lane) {
			continue
		}
		one := p.run(cmd.Context())
		if cmd.Context().Err() != nil {
			return infrastructure(errors.New("interrupted"))
		}
		found = append(found, one)
		if f.json {
			if err := json.NewEncoder(cmd.OutOrStdout()).Encode(one); err != nil {
				return infrastructure(err)
			}
		}
	}
	if !f.json {
		if err := f.write(cmd, found); err != nil {
			return infrastructure(err)
		}
	}
	return f.verdict(found)
}

// run tries one thing.
func (p probe) run(ctx context.Context) finding {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	began := time.Now()
	detail, err := p.try(ctx)
	one := finding{Lane: p.lane, Part: p.part, Works: err == nil, Detail: detail, TookMS: reports.Milliseconds(time.Since(began))}
	if err != nil {
		one.Detail = strings.ReplaceAll(strings.TrimSpace(err.Error()), "\n", "; ")
	}
	return one
}

func (f *doctorFlags) write(cmd *cobra.Command, found []finding) error {
	columns := []table.Column{{Name: "lane"}, {Name: "what"}, {Name: "works"}, {Name: "found, or why not"}}
	var rows [][]string
	for _, one := range found {
		works := "yes"
		if !one.Works {
			works = "NO"
		}
		rows = append(rows, []string{one.Lane, one.Part, works, one.Detail})
	}
	return table.Write(cmd.OutOrStdout(), table.Text, columns, rows)
}

// verdict is an error if something that was asked for does not work.
func (f *doctorFlags) verdict(found []finding) error {
	want := f.lanes
	if len(want) == 0 {
		want = []string{string(scenarios.LaneProcess)}
	}
	seen := map[string]bool{}
	var broken []string
	for _, one := range found {
		seen[one.Lane] = true
		if !one.Works && (one.Lane == laneHost || slices.Contains(want, one.Lane)) {
			broken = append(broken, one.Lane)
		}
	}
	for _, l := range want {
		if !seen[l] {
			broken = append(broken, l)
		}
	}
	if len(broken) == 0 {
		return nil
	}
	return infrastructure(fmt.Errorf("not all works in: %s", strings.Join(slices.Compact(broken), ", ")))
}
