package config

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Print writes every setting with its value and where that came from, as a file
// that --config reads. Settings that only a flag can set stand in comments.
func (s *Set) Print(w io.Writer) error {
	b := bufio.NewWriter(w)
	for _, st := range s.list {
		if st.alias || st.Name == configFlag {
			continue
		}
		switch st.value.(type) {
		case *ignoredValue, *rejectedValue:
			continue
		}
		text := yamlText(st.value)
		if st.secret {
			if st.Origin.Layer != LayerDefault {
				fmt.Fprintf(b, "# %s is set and not shown (%s)\n", st.Name, st.Origin)
			}
			continue
		}
		if st.flagOnly {
			if st.Origin.Layer != LayerDefault {
				fmt.Fprintf(b, "# %s: %s (%s)\n", st.Name, text, st.Origin)
			}
			continue
		}
		fmt.Fprintf(b, "%-36s # %s\n", st.Name+": "+text, st.Origin)
	}
	return b.Flush()
}

// yamlText is a value as YAML has it: numbers and switches bare, texts quoted.
func yamlText(v value) string {
	switch v := v.(type) {
	case *scalar[string]:
		return strconv.Quote(*v.p)
	case interface{ strings() []string }:
		var quoted []string
		for _, text := range v.strings() {
			quoted = append(quoted, strconv.Quote(text))
		}
		return "[" + strings.Join(quoted, ", ") + "]"
	}
	return v.String()
}
