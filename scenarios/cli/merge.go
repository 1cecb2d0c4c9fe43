package cli

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"ds4/reports"
)

func newMerge() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "merge FILE ... -o OUT",
		Short: "Join the results of the shards of a run",
		Long: `Joins results files into one, as ds4bench run --shard writes them: each run keeps
its own record, so that it stays known where it ran. OUT may be one of the files,
and is written whole or not at all.

Refused, with exit code 2: files of different versions of ds4bench, server or model,
shards of different runs, a shard or a repetition that is there twice, speeds from
different machines. Exit code 3, and what there is is joined all the same: a shard
is missing, or was killed. Exit code 0 says that the run is complete, not that it
passed: ds4bench report OUT tells.`,
		Example: `  ds4bench run --shard 1/2 --out 1.jsonl    # on one machine
  ds4bench run --shard 2/2 --out 2.jsonl    # on another
  ds4bench merge 1.jsonl 2.jsonl -o all.jsonl && ds4bench report all.jsonl`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 || out == "" {
				return usagef(cmd, "which results files, and -o which file?")
			}
			return merge(cmd, args, out)
		},
	}
	cmd.Flags().StringVarP(&out, "out", "o", "", "`file` to write")
	return cmd
}

func merge(cmd *cobra.Command, paths []string, out string) error {
	if err := replaceable(out); err != nil {
		return badFile(fmt.Errorf("--out: %w", err))
	}
	if err := together(paths); err != nil {
		return badFile(err)
	}
	var parts []reports.Part
	for _, path := range paths {
		f, err := reports.ReadFile(path)
		if err != nil {
			return badFile(err)
		}
		parts = append(parts, reports.Part{Name: path, File: f})
	}
	joint, err := reports.Merge(parts)
	if joint == nil {
		return badFile(err)
	}
	if err := writeJoint(out, joint); err != nil {
		return notWritten(err)
	}
	fmt.Fprintf(cmd.OutOrStdout(), "%d runs, %s; results in %s\n", len(joint.Runs), counts(joint.Results()), out)
	if err != nil {
		return infrastructure(err)
	}
	return nil
}

// together refuses what is no file, and more than may be in memory at a time.
func together(paths []string) error {
	if len(paths) > reports.MaxShards {
		return fmt.Errorf("%d files, the limit is %d", len(paths), reports.MaxShards)
	}
	var sum int64
	for _, path := range paths {
		info, err := os.Stat(path)
		switch {
		case err != nil:
			return err
		case !info.Mode().IsRegular():
			return fmt.Errorf("%s is not a file", path)
		}
		if sum += info.Size(); sum > reports.MaxFileBytes {
			return fmt.Errorf("the files are longer than %d bytes together", int64(reports.MaxFileBytes))
		}
	}
	return nil
}

// writeJoint writes a results file. Neither a full disk nor a kill leaves half of
// one in the place of a whole one.
func writeJoint(path string, f *reports.File) error {
	return writeFile(path, func(out io.Writer) error {
		for _, run := range f.Runs {
			w, err := reports.NewWriter(out, run.Run)
			if err != nil {
				return err
			}
			for i := range run.Results {
				if err := w.Result(&run.Results[i]); err != nil {
					return err
				}
			}
			if run.End == nil {
				continue
			}
			if err := w.End(*run.End); err != nil {
				return err
			}
		}
		return nil
	})
}
