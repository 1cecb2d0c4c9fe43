package cli

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"ds4/runtime/kvstore"
)

// verifyJSON is what `ds4 kv verify --json` prints.
type verifyJSON struct {
	OK       bool                    `json:"ok"`
	Full     bool                    `json:"full"`
	Checked  int                     `json:"checked"`
	Bytes    int64                   `json:"bytes"` // of the files that were checked
	Unlisted int                     `json:"unlisted"`
	Files    map[kvstore.Verdict]int `json:"files"`
	Problems []kvSegmentJSON         `json:"problems"`
}

func (a *app) kvVerifyCommand() *cobra.Command {
	var (
		s            kvSettings
		asJSON, full bool
	)
	s.addModel()
	cmd := a.command("verify [--full] [--json] [-m FILE] [DIR]", "check the segments of a cache folder", maxArgs(1), &s.settings,
		func(cmd *cobra.Command, args []string) error {
			progress, done := a.progress(full)
			list, err := s.look(cmd, args, kvstore.SurveyOptions{Full: full, Progress: progress})
			done()
			if err != nil {
				return err
			}
			return a.printVerified(newListing(list), full, asJSON)
		})
	cmd.Long = `Check the segments of a cache folder and print a line for each that is damaged.
Without --full that is header, section table and footer of each file, as a server
does at its start; with it every byte: the checksum of every section, the text
against the file's name, the zeros between sections.

Nothing is changed and no lock is kept; files that a running server removes
meanwhile are no damage. Orphans and segments of another model are no damage
either; ls shows them. The quarantine is not looked at: what is there is known
to be bad.

Exit codes: 0 everything is in order, 1 there is damage, or a file cannot be
read, 2 the command line is wrong or the folder is no cache folder.`
	cmd.Example = `  ds4 kv verify --kv-disk-dir ~/.cache/ds4
  ds4 kv verify --full DIR && echo fine`
	cmd.Flags().BoolVar(&full, "full", false, "read every byte")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// printVerified prints the problems and what was checked, and turns damage into
// the exit code.
func (a *app) printVerified(p *listing, full, asJSON bool) error {
	report := verifyJSON{Full: full, Checked: len(p.Segments), Unlisted: p.Unlisted, Files: p.sum.Files, Problems: []kvSegmentJSON{}}
	bad := 0
	for i := range p.Segments {
		f := &p.Segments[i]
		report.Bytes += f.Bytes
		if f.Verdict != kvstore.VerdictDamaged && f.Verdict != kvstore.VerdictUnreadable {
			continue
		}
		bad++
		if asJSON {
			report.Problems = append(report.Problems, p.segmentJSON(f))
		} else if _, err := fmt.Fprintf(a.Out, "%s %s: %s\n", f.Verdict, f.Path(p.Dir), f.Reason); err != nil {
			return err
		}
	}
	report.OK = bad == 0 && p.Unlisted == 0
	if err := a.printChecked(&report, asJSON); err != nil {
		return err
	}
	switch {
	case bad > 0:
		return &exitError{exitFailure, fmt.Errorf("%d of %d segments are damaged", bad, len(p.Segments))}
	case p.Unlisted > 0:
		return &exitError{exitFailure, fmt.Errorf("%d segments beyond the first %d were not checked", p.Unlisted, len(p.Segments))}
	}
	return nil
}

func (a *app) printChecked(r *verifyJSON, asJSON bool) error {
	if asJSON {
		return writeIndented(a.Out, r)
	}
	depth := "header, table and footer"
	if r.Full {
		depth = "every byte"
	}
	line := fmt.Sprintf("checked %d segments, %s (%s)", r.Checked, formatBytes(uint64(r.Bytes)), depth)
	for _, v := range verdictOrder {
		if n := r.Files[v]; n > 0 {
			line += fmt.Sprintf(", %d %s", n, v)
		}
	}
	_, err := fmt.Fprintln(a.Out, line)
	return err
}

// progress returns a function that shows on a terminal how far a long check is,
// and one that wipes the line.
func (a *app) progress(wanted bool) (show func(files int, bytes int64), done func()) {
	if !wanted || !isTerminal(a.Err) {
		return nil, func() {}
	}
	start, last := time.Now(), time.Time{}
	show = func(files int, bytes int64) {
		if now := time.Now(); now.Sub(last) > 200*time.Millisecond {
			last = now
			fmt.Fprintf(a.Err, "\r\x1b[K%d segments, %s, %s/s", files, formatBytes(uint64(bytes)),
				formatBytes(uint64(float64(bytes)/max(now.Sub(start).Seconds(), 1e-3))))
		}
	}
	return show, func() { fmt.Fprint(a.Err, "\r\x1b[K") }
}
