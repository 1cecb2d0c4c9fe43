package cli

import (
	"github.com/spf13/cobra"

	"ds4/scenarios"
)

func newSchema() *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of scenario files",
		Long: `Prints the JSON Schema of scenario files, which editors use to complete and check
them. With the YAML language server, for example:

  ds4bench schema > scenario.schema.json

and as the first line of a scenario:

  # yaml-language-server: $schema=scenario.schema.json`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			text, err := scenarios.SchemaJSON()
			if err != nil {
				return infrastructure(err)
			}
			_, err = cmd.OutOrStdout().Write(text)
			return err
		},
	}
}
