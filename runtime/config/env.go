package config

import (
	"sort"
	"strings"
)

const (
	envPrefix = "DS4_"
	// EnableFaultsEnv must be 1 before any fault hook can be armed.
	EnableFaultsEnv = "DS4_ENABLE_FAULTS"
	// MetalFaultEnv holds a fault plan of the device layer.
	MetalFaultEnv = "DS4_METAL_FAULT"
)

// ownVariables are DS4_* variables that are no settings.
var ownVariables = []string{EnableFaultsEnv, MetalFaultEnv, "DS4_LOCK_FILE", "DS4_CPU"}

// environment keeps what concerns ds4. Of a name that occurs twice the last
// counts, as os/exec has it.
func environment(environ []string) map[string]string {
	env := map[string]string{}
	for _, kv := range environ {
		if name, text, ok := strings.Cut(kv, "="); ok && strings.HasPrefix(name, envPrefix) {
			env[name] = text
		}
	}
	return env
}

// applyEnv sets what the environment holds. An empty variable counts as unset:
// that is how a shell or a unit file takes one away.
func (s *Set) applyEnv(env map[string]string) error {
	for _, st := range s.list {
		text := env[st.Env()]
		if text == "" || st.flagOnly {
			continue
		}
		if err := s.apply(st.Name, []string{text}, Origin{LayerEnv, st.Env()}); err != nil {
			return err
		}
	}
	return nil
}

// unknownVariables returns the DS4_* variables that no command knows, sorted.
func unknownVariables(env map[string]string) []string {
	known := map[string]bool{}
	for _, name := range ownVariables {
		known[name] = true
	}
	for _, st := range everything().list {
		known[st.Env()] = !st.flagOnly
	}
	var list []string
	for name := range env {
		if !known[name] {
			list = append(list, name)
		}
	}
	sort.Strings(list)
	return list
}
