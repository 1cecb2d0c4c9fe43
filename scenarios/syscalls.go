package scenarios

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"ds4/faults"
	"ds4/faults/syscalls"
)

// OpVariable is the variable of a sweep over operations.
const OpVariable = "op"

// callRules checks rules for system calls.
func (c *checker) callRules(rules []string, fail func(string, ...any) error) error {
	if len(rules) > 0 && c.lane != LaneSyscalls {
		return fail("syscalls needs lane %s", LaneSyscalls)
	}
	for _, text := range rules {
		if _, err := syscalls.ParseRule(text); err != nil {
			return fail("syscalls: %w", err)
		}
	}
	return nil
}

// sweptOps lists the operations of a sweep; one that has none is made once,
// without.
func (c *checker) sweptOps(s *Sweep, at string) ([]string, error) {
	switch {
	case len(s.Op) == 0:
		return []string{""}, nil
	case c.lane != LaneSyscalls:
		return nil, fmt.Errorf("%w: %s: op needs lane %s", ErrInvalid, at, LaneSyscalls)
	case s.Until == "":
		return nil, fmt.Errorf("%w: %s: op goes with until: unfired", ErrInvalid, at)
	case s.Var == OpVariable:
		return nil, fmt.Errorf("%w: %s: var %q is that of op", ErrInvalid, at, s.Var)
	}
	for _, op := range s.Op {
		if !slices.Contains(syscalls.Ops(), op) {
			return nil, fmt.Errorf("%w: %s: op %q (known: %s)", ErrInvalid, at, op, strings.Join(syscalls.Ops(), ", "))
		}
	}
	return s.Op, nil
}

// withOp adds the operation to the variables, if the sweep is over some.
func (s *Sweep) withOp(vars map[string]string, op string) map[string]string {
	if op == "" {
		return vars
	}
	vars = maps.Clone(vars)
	if vars == nil {
		vars = map[string]string{}
	}
	vars[OpVariable] = op
	return vars
}

// isCallRule says whether a name in fired is that of rules for system calls, which
// happen to any server.
func isCallRule(name string) bool {
	_, err := syscalls.ParseRule(name)
	return err == nil || name == faults.AnyOp || slices.Contains(syscalls.Ops(), name)
}
