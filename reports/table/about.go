package table

import (
	"fmt"
	"io"
	"strings"

	"ds4/reports"
)

// About writes the line above the tables: what was measured, and where. Figures
// mean nothing without it. What is not known is left out.
func About(w io.Writer, run reports.Run) error {
	what := []string{"server"}
	if run.Server.Version != "" {
		what = []string{"ds4 " + run.Server.Version}
	}
	if run.Server.Target != "" {
		what = append(what, "at "+run.Server.Target)
	}
	if run.Server.Model != "" {
		what = append(what, "with "+run.Server.Model)
	}
	if run.Server.KernelSet != "" {
		what = append(what, "on "+run.Server.KernelSet)
	}
	where := []string{run.Host.OS + "/" + run.Host.Arch}
	if run.Host.CPU != "" {
		where = append(where, run.Host.CPU)
	}
	where = append(where, cores(run.Host.Cores))
	if len(run.Host.CPUFeatures) > 0 {
		where = append(where, strings.Join(run.Host.CPUFeatures, " "))
	}
	_, err := fmt.Fprintf(w, "%s; %s; seed %d\n\n", Printable(strings.Join(what, " ")), Printable(strings.Join(where, ", ")), run.Seed)
	return err
}

func cores(n int) string {
	if n == 1 {
		return "1 core"
	}
	return fmt.Sprintf("%d cores", n)
}
